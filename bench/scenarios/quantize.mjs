import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { atMost } from "../report/targets.mjs";
import { inChild, outputOf } from "../run/child.mjs";
import { bench, model, root } from "../setup/paths.mjs";
import { tool } from "../setup/upstream.mjs";

const NAME = "0.7b-f16";
const TYPE = "Q4_K_M";
const OUTPUT = path.join(bench, "models", "quantized.gguf");
const LOAD = { contextLength: 256 };

export default {
  name: "quantize",
  title: "Quantizing",
  about:
    `A model of 0.7 billion random weights, 1.4 GB in F16, to ${TYPE}, on all cores; the file is in the system's cache. While ` +
    "loading: from the call to a model that can generate, beside llama-quantize and then loading what it wrote, in coldstart. " +
    "`memory` is the most that the process had, with the pages of mapped files.",
  cases({ cores }) {
    execFileSync(process.execPath, ["--import", "tsx", path.join(bench, "models.ts"), NAME], {
      cwd: root,
      stdio: "ignore",
    });
    const threads = os.availableParallelism();
    const source = model(NAME);
    const load = (job) => inChild("quantize.coldstart.mjs", { source, load: LOAD, ...job });
    return [
      {
        title: `A file, ${cores} threads`,
        metrics: { time: { unit: "s" } },
        contenders: {
          coldstart: fresh(() => load({ output: OUTPUT, quantize: { type: TYPE, threads } })),
          "llama-quantize": fresh(() => llamaQuantize(source, threads)),
        },
        targets: [atMost(0.67, "llama-quantize", "time")],
      },
      {
        title: `While loading, ${cores} threads`,
        metrics: { time: { unit: "s" }, memory: { unit: "MiB" } },
        contenders: {
          coldstart: () => load({ load: { ...LOAD, quantize: TYPE, threads } }),
          "llama-quantize, then coldstart": fresh(async () => {
            const { time } = await llamaQuantize(source, threads);
            const loaded = await load({ source: OUTPUT, load: { ...LOAD, threads } });
            return { time: time + loaded.time, memory: loaded.memory };
          }),
        },
        targets: [atMost(0.6, "llama-quantize, then coldstart", "time")],
      },
    ];
  },
};

/** Without what the one before wrote. */
function fresh(measure) {
  return async () => {
    fs.rmSync(OUTPUT, { force: true });
    try {
      return await measure();
    } finally {
      fs.rmSync(OUTPUT, { force: true });
    }
  };
}

async function llamaQuantize(source, threads) {
  const started = performance.now();
  await outputOf(tool("llama-quantize"), [source, OUTPUT, TYPE, String(threads)]);
  return { time: (performance.now() - started) / 1000 };
}
