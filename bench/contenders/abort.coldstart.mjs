// job: model, load, promptTokens, aborts
//
// Reports, in milliseconds: from `abort()` to the result, and the time that one full batch of prompt tokens takes.

import { setTimeout as sleep } from "node:timers/promises";
import { loadModel } from "../../dist/index.js";
import { median, quantile } from "../report/stats.mjs";
import { job, report, words } from "./job.mjs";

const model = await loadModel(job.model, job.load);
let prompts = 0;
const prompt = (tokens) => words(tokens, prompts++);
await model.generate(prompt(16), { maxTokens: 1 }).result;

const batches = [];
for (let i = 0; i < 5; i++) {
  const { timings } = await model.generate(prompt(job.load.batchSize), { maxTokens: 1 }).result;
  batches.push(timings.prefill);
}
const batch = median(batches);

const waits = [];
for (let i = 0; i < job.aborts; i++) {
  const controller = new AbortController();
  const generation = model.generate(prompt(job.promptTokens), { maxTokens: 16, signal: controller.signal });
  // At all places of a batch, one after the other, and never so late that the prompt may be done.
  await sleep(batch * (1 + i / job.aborts));
  const started = performance.now();
  controller.abort();
  const { finishReason, tokens } = await generation.result;
  if (finishReason !== "aborted" || tokens.length > 0) throw new Error("The prompt was done before the abort.");
  waits.push(performance.now() - started);
}
await model.dispose();
await report({ p50: median(waits), p99: quantile(waits, 0.99), "one batch": batch });
