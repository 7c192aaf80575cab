import { inChild } from "../run/child.mjs";
import { model } from "../setup/paths.mjs";

const PROMPT = 4096;

export default {
  name: "abort",
  title: "Abort during a prompt",
  about:
    `From \`abort()\` to the end of a generation whose prompt of ${PROMPT} tokens is being computed, 125m-q4_0, as many threads ` +
    "as cores. Each round aborts 30 times; `one batch` is how long a batch of prompt tokens takes in the same process.",
  cases({ cores, quick }) {
    const measure = (batchSize) =>
      inChild("abort.coldstart.mjs", {
        model: model("125m-q4_0"),
        load: { threads: cores, contextLength: PROMPT + 64, parallel: 1, batchSize },
        promptTokens: PROMPT,
        aborts: quick ? 6 : 30,
      });
    const contenders = { coldstart: () => measure(512), "coldstart, batchSize: 128": () => measure(128) };
    return [
      {
        title: `A prompt of ${PROMPT} tokens`,
        metrics: { p50: { unit: "ms" }, p99: { unit: "ms" }, "one batch": { unit: "ms" } },
        contenders,
        targets: Object.keys(contenders).map((name) => ({
          text: `${name}: p99 ≤ one batch`,
          value: (medianOf) => medianOf(name, "p99") / medianOf(name, "one batch"),
          met: (ratio) => ratio <= 1,
        })),
      },
    ];
  },
};
