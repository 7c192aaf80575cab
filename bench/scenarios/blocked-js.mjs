import { atLeast } from "../report/targets.mjs";
import { inChild } from "../run/child.mjs";
import { model } from "../setup/paths.mjs";
import { repeats } from "./contenders.mjs";

export default {
  name: "blocked-js",
  title: "Blocked JavaScript thread",
  about:
    "One stream on one thread while JavaScript computes for 20 of every 25 ms, and while it does not. Speed by the engine's " +
    "own clock.",
  cases: () => ["4m-f16", "125m-q4_0"].map(oneCase),
};

function oneCase(name) {
  const load = { threads: 1, contextLength: 256, parallel: 1 };
  const measure = (blockMs) =>
    inChild("blocked.coldstart.mjs", {
      model: model(name),
      load,
      tokens: 128,
      repeat: 2 * repeats(name),
      blockMs,
      everyMs: 25,
    });
  return {
    title: name,
    metrics: { decode: { unit: "tokens/s" } },
    contenders: { coldstart: () => measure(0), "coldstart, blocked": () => measure(20) },
    targets: [atLeast(0.95, "coldstart", "decode", "coldstart, blocked")],
  };
}
