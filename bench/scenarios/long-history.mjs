import { inChild } from "../run/child.mjs";
import { llamaBench, patchedTool } from "../run/tools.mjs";
import { model } from "../setup/paths.mjs";

const FILE = model("4m-f16");
const TOKENS = 128;

export default {
  name: "long-history",
  title: "Long history",
  about:
    "Milliseconds a token of one stream that decodes after a history of so many tokens, 4m-f16, one thread. Attention over " +
    "the history costs more the longer it is, for all. What is beyond it is the difference to llama-bench, which only " +
    "computes. coldstart's patches make attention itself faster, so the same tool with them is the closer comparison.",
  cases({ quick, rounds }) {
    const depths = quick ? [1024, 8192] : [1024, 8192, 32_768];
    const name = (depth) => `after ${depth}`;
    const named = (times) => Object.fromEntries(depths.map((depth) => [name(depth), times[depth]]));
    const tool = async (binary) =>
      named(await llamaBench(FILE, { threads: 1, tokens: TOKENS, depths, repeat: 3, ...(binary && { binary }) }));
    const patched = patchedTool(tool);
    const [shortest, longest] = [name(depths[0]), name(depths.at(-1))];
    return [
      {
        title: "4m-f16, 1 thread",
        rounds: Math.min(rounds, 3),
        metrics: Object.fromEntries(depths.map((depth) => [name(depth), { unit: "ms" }])),
        contenders: {
          coldstart: async () => named(await measure(depths)),
          "llama-bench": () => tool(),
          ...patched.contenders,
        },
        absent: patched.absent,
        targets: ["llama-bench", ...Object.keys({ ...patched.contenders, ...patched.absent })].map((other) =>
          noGrowth(other, shortest, longest),
        ),
      },
    ];
  },
};

function measure(depths) {
  const contextLength = depths.at(-1) + 2 * TOKENS;
  const load = { threads: 1, contextLength, parallel: 1 };
  return inChild("long-history.coldstart.mjs", { model: FILE, load, depths, tokens: TOKENS, repeat: 3 });
}

/** How much more coldstart takes than the tool must not grow with the history. */
function noGrowth(other, shortest, longest) {
  return {
    text: `(coldstart − ${other}) ${longest} − (…) ${shortest}, as a share of a token: ≤ 0.02`,
    value(medianOf) {
      const beyond = (metric) => medianOf("coldstart", metric) - medianOf(other, metric);
      return (beyond(longest) - beyond(shortest)) / medianOf(other, longest);
    },
    met: (growth) => growth <= 0.02, // the noise of two medians
  };
}
