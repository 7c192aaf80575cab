// job: model, threads, tokens, promptTokens, contextLength, repeat; one stream

import { loadModel } from "@fugood/llama.node";
import { medians, throughput } from "../report/stats.mjs";
import { job, peakMemory, report, TEMPERATURE, TOP_K, TOP_P, words } from "./job.mjs";

const context = await loadModel({
  model: job.model,
  n_ctx: job.contextLength,
  n_parallel: 1,
  n_threads: job.threads,
  n_gpu_layers: 0,
});

async function round(number, count) {
  const prompt = await context.detokenize(words(job.promptTokens, number + 1));
  const arrivals = [];
  const started = performance.now();
  await context.completion(
    {
      prompt,
      n_predict: count,
      temperature: TEMPERATURE,
      top_k: TOP_K,
      top_p: TOP_P,
      min_p: 0,
      seed: number + 1,
      ignore_eos: true,
    },
    () => arrivals.push([performance.now(), 1]),
  );
  return throughput([arrivals], started);
}

await round(-1, 8);
const rounds = [];
for (let number = 0; number < job.repeat; number++) rounds.push(await round(number, job.tokens));
const memory = peakMemory();
await context.release();
await report({ ...medians(rounds), memory });
