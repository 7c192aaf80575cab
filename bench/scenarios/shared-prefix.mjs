import { atMost } from "../report/targets.mjs";
import { inChild } from "../run/child.mjs";
import { model } from "../setup/paths.mjs";
import { tool } from "../setup/upstream.mjs";

const PREFIX = 1024;
const SLOT = PREFIX + 64; // tokens of a request, with room to spare
const PARALLEL = 8;

export default {
  name: "shared-prefix",
  title: "Requests that begin alike",
  about:
    `Requests over a common beginning of ${PREFIX} tokens with 16 of their own, answers of 16 tokens, all made at once, ` +
    `${PARALLEL} computed at the same time, 125m-q4_0, as many threads as cores. Nothing is in a cache before. ` +
    "`first token` is the median over the requests, from the call.",
  cases({ cores, quick, rounds }) {
    const requests = quick ? 16 : 64;
    const job = { model: model("125m-q4_0"), requests, prefixTokens: PREFIX, promptTokens: 16, tokens: 16 };
    const load = { threads: cores, contextLength: SLOT, parallel: PARALLEL, kvCache: { capacity: PARALLEL * SLOT } };
    const server = (...more) =>
      inChild("shared-prefix.llama-server.mjs", {
        ...job,
        server: tool("llama-server"),
        threads: cores,
        load: ["--parallel", String(PARALLEL), "-c", String(PARALLEL * SLOT), ...more],
      });
    return [
      {
        title: `${requests} requests`,
        rounds: Math.min(rounds, 3), // without a cache, one round is 64 times the prefix
        metrics: { "first token": { unit: "ms" }, "all answers": { unit: "ms" } },
        contenders: {
          coldstart: () => inChild("shared-prefix.coldstart.mjs", { ...job, load }),
          "coldstart, prefixCache: false": () =>
            inChild("shared-prefix.coldstart.mjs", { ...job, load: { ...load, prefixCache: false } }),
          "llama-server": () => server(),
          "llama-server -kvu": () => server("-kvu"),
        },
        targets: [
          atMost(0.1, "coldstart, prefixCache: false", "first token"),
          atMost(0.7, "llama-server", "first token"),
          atMost(0.7, "llama-server -kvu", "first token"),
        ],
      },
    ];
  },
};
