// job: source, output (a file to write; without it, quantize while loading), load (options of loadModel), quantize

import { loadModel, quantizeModel } from "../../dist/index.js";
import { job, peakMemory, report } from "./job.mjs";

const started = performance.now();
if (job.output === undefined) {
  const model = await loadModel(job.source, job.load);
  const time = (performance.now() - started) / 1000;
  const memory = peakMemory();
  await model.dispose();
  await report({ time, memory });
} else {
  await quantizeModel(job.source, job.output, job.quantize);
  await report({ time: (performance.now() - started) / 1000, memory: peakMemory() });
}
