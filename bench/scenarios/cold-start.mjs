import path from "node:path";
import { atMost } from "../report/targets.mjs";
import { firstText } from "../run/child.mjs";
import { bench, model } from "../setup/paths.mjs";
import { peers } from "../setup/peers.mjs";
import { LLAMA_NODE, NODE_LLAMA_CPP } from "./contenders.mjs";

export default {
  name: "cold-start",
  title: "Cold start",
  about:
    "From the start of a process to the first text: a context of 256 tokens, one thread, files in the " +
    "system's cache.",
  cases: ({ rounds }) => ["tiny-stories", "125m-q4_0"].map((name) => oneCase(name, 3 * rounds)),
};

function oneCase(name, rounds) {
  const start = (script) => async () => ({
    "first text": await firstText([path.join(bench, "contenders", `first-text.${script}.mjs`), model(name)]),
  });
  const others = peers({ [NODE_LLAMA_CPP]: start("node-llama-cpp"), [LLAMA_NODE]: start("llama-node") });
  return {
    title: name,
    rounds, // a single start is short and noisy
    metrics: { "first text": { unit: "ms" } },
    contenders: {
      coldstart: start("coldstart"),
      ...others.contenders,
      "Node.js alone": async () => ({ "first text": await firstText(["-e", "fs.writeSync(3, 'x')"]) }),
    },
    absent: others.absent,
    targets: [atMost(0.15, NODE_LLAMA_CPP, "first text"), atMost(1, LLAMA_NODE, "first text")],
  };
}
