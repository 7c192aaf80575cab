// job: model, load (options of loadModel), streams, tokens, promptTokens, prefixTokens (that all prompts begin with),
// adapters (files that the streams use in turn; perhaps none), repeat

import { loadModel } from "../../dist/index.js";
import { medians, throughput } from "../report/stats.mjs";
import { sampling } from "./coldstart.mjs";
import { job, peakMemory, report, words } from "./job.mjs";

const model = await loadModel(job.model, job.load);
const prefix = words(job.prefixTokens, 0);
const options = sampling(model, job.tokens);
const loaded = await Promise.all((job.adapters ?? []).map((file) => model.loadAdapter(file)));

async function stream(prompt, seed) {
  const arrivals = [];
  const adapters = loaded.length > 0 ? [loaded[seed % loaded.length]] : [];
  for await (const { tokens } of model.generate(prompt, { ...options, seed, adapters })) {
    arrivals.push([performance.now(), tokens.length]);
  }
  return arrivals;
}

async function round(number) {
  const prompts = Array.from({ length: job.streams }, (_, i) => [
    ...prefix,
    ...words(job.promptTokens, 1 + number * job.streams + i),
  ]);
  const started = performance.now();
  return throughput(await Promise.all(prompts.map(stream)), started);
}

// The weights are in memory after this, and the prefix is in the cache.
await model.generate([...prefix, ...words(1, 0)], { maxTokens: 8 }).result;
const rounds = [];
for (let number = 0; number < job.repeat; number++) rounds.push(await round(number));
await model.dispose();
await report({ ...medians(rounds), memory: peakMemory() });
