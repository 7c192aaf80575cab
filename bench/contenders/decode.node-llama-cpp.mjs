// job: model, threads, streams, tokens, promptTokens, contextLength (of a stream), repeat
//
// `evaluate()` is the library's fastest way to tokens; the text is made of them one by one, as its users need it.

import { getLlama } from "node-llama-cpp";
import { medians, throughput } from "../report/stats.mjs";
import { job, peakMemory, report, TEMPERATURE, TOP_K, TOP_P, words } from "./job.mjs";

const llama = await getLlama({ gpu: false, logLevel: "error", maxThreads: job.threads });
const model = await llama.loadModel({ modelPath: job.model });
const context = await model.createContext({
  contextSize: job.contextLength,
  sequences: job.streams,
  threads: job.threads,
});
const sequences = Array.from({ length: job.streams }, () => context.getSequence());

async function stream(sequence, prompt, seed, count) {
  const options = { temperature: TEMPERATURE, topK: TOP_K, topP: TOP_P, minP: 0, seed };
  const arrivals = [];
  // Goes on after a token that would end the text, so that all answers have the same length.
  for await (const token of sequence.evaluate(prompt, { ...options, yieldEogToken: true })) {
    model.detokenize([token]);
    arrivals.push([performance.now(), 1]);
    if (arrivals.length === count) break;
  }
  return arrivals;
}

async function round(number, tokens) {
  await Promise.all(sequences.map((sequence) => sequence.clearHistory()));
  const prompts = sequences.map((_, i) => words(job.promptTokens, 1 + number * job.streams + i));
  const started = performance.now();
  const streams = await Promise.all(sequences.map((sequence, i) => stream(sequence, prompts[i], i, tokens)));
  return throughput(streams, started);
}

await round(-1, 8);
const rounds = [];
for (let number = 0; number < job.repeat; number++) rounds.push(await round(number, job.tokens));
await llama.dispose();
await report({ ...medians(rounds), memory: peakMemory() });
