// job: server (its binary), model, threads, load (its arguments), streams, tokens, promptTokens, adapters (files that the
// streams use in turn; perhaps none), repeat

import { medians, throughput } from "../report/stats.mjs";
import { job, report, words } from "./job.mjs";
import { startServer } from "./llama-server.mjs";

const server = await startServer();

async function round(number, tokens) {
  const prompts = Array.from({ length: job.streams }, (_, i) => words(job.promptTokens, 1 + number * job.streams + i));
  const started = performance.now();
  const adapters = job.adapters ?? [];
  const lora = (seed) => adapters.map((_, id) => ({ id, scale: id === seed % adapters.length ? 1 : 0 }));
  const answers = await Promise.all(
    prompts.map((prompt, seed) => server.complete(prompt, { tokens, seed, lora: lora(seed) })),
  );
  return throughput(
    answers.map(({ arrivals }) => arrivals),
    started,
  );
}

await round(-1, 8);
const rounds = [];
for (let number = 0; number < job.repeat; number++) rounds.push(await round(number, job.tokens));
const memory = server.peakMemory();
await server.stop();
await report({ ...medians(rounds), memory });
