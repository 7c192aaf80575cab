import { inChild } from "../run/child.mjs";
import { model } from "../setup/paths.mjs";
import { tool } from "../setup/upstream.mjs";

const CONTEXT = 1088; // 8 turns of 128 tokens, with room to spare

export default {
  name: "multi-turn",
  title: "A conversation",
  about:
    "Eight turns of 64 tokens from the user and 64 from the model, 125m-q4_0, as many threads as cores. Each prompt is the " +
    "whole conversation so far. Time to the first token: of the first turn, the median of the other turns, and of the last.",
  cases({ cores }) {
    const job = { model: model("125m-q4_0"), turns: 8, userTokens: 64, tokens: 64 };
    const load = { threads: cores, contextLength: CONTEXT, parallel: 1 };
    return [
      {
        title: "8 turns",
        metrics: { "first turn": { unit: "ms" }, "later turns": { unit: "ms" }, "last turn": { unit: "ms" } },
        contenders: {
          coldstart: () => inChild("conversation.coldstart.mjs", { ...job, load }),
          "coldstart, prefixCache: false": () =>
            inChild("conversation.coldstart.mjs", { ...job, load: { ...load, prefixCache: false } }),
          "llama-server": () =>
            inChild("conversation.llama-server.mjs", {
              ...job,
              server: tool("llama-server"),
              threads: cores,
              load: ["--parallel", "1", "-c", String(CONTEXT)],
            }),
        },
      },
    ];
  },
};
