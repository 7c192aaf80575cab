import { coldstart, SPEED } from "./contenders.mjs";

const MODELS = ["4m-f16", "125m-q4_0"];
const STREAMS = [1, 8, 32];
const SHARED = [0, 1024];

export default {
  name: "kv-layout",
  title: "Layouts of the KV cache",
  about:
    "Answers of 128 tokens on one thread, with one pool of tokens for all streams (`unified`, the default) and with a pool for " +
    "each (`split`): prompts of 16 tokens, and prompts that have 1,024 more in common, which are computed once before.",
  cases: ({ rounds }) =>
    MODELS.flatMap((name) =>
      SHARED.flatMap((prefixTokens) => STREAMS.map((streams) => oneCase(name, prefixTokens, streams, rounds))),
    ),
};

function oneCase(name, prefixTokens, streams, rounds) {
  const shape = { threads: 1, streams, prefixTokens };
  return {
    title: `${name}, ${streams === 1 ? "1 stream" : `${streams} streams`}${prefixTokens > 0 ? `, ${prefixTokens} tokens shared` : ""}`,
    rounds: Math.min(rounds, 3),
    metrics: SPEED,
    contenders: {
      coldstart: () => coldstart(name, shape),
      "coldstart, split": () => coldstart(name, { ...shape, layout: "split" }),
    },
  };
}
