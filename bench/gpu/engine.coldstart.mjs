// job: model, load (options of loadModel), rounds, prompts (tokens of each), streams (how many at a time), promptTokens, tokens. Prints one JSON object: what loading
// took, prefill and decode in tokens a second, and a fingerprint of the greedy tokens.

import { createHash } from "node:crypto";
import { loadModel } from "../../dist/index.js";
import { medians, throughput } from "../report/stats.mjs";
import { words } from "../contenders/job.mjs";

const job = JSON.parse(process.argv[2]);
const most = Math.max(...job.streams);
const started = performance.now();
const longest = Math.max(job.promptTokens + job.tokens, ...job.prompts) + 64;
const model = await loadModel(job.model, {
  ...job.load,
  contextLength: longest,
  parallel: most,
  kvCache: {
    ...job.load.kvCache,
    capacity:
      job.load.kvCache.layout === "split"
        ? most * longest
        : Math.max(longest, most * (job.promptTokens + job.tokens + 1)),
  },
});
const loaded = performance.now() - started;
const options = { temperature: 0, logitBias: {}, maxTokens: job.tokens };

let number = 0;
async function stream(prompt, extra) {
  const arrivals = [];
  for await (const { tokens } of model.generate(prompt, { ...options, ...extra })) {
    arrivals.push([performance.now(), tokens.length]);
  }
  return arrivals;
}

const first = performance.now();
const greedy = (await model.generate(words(16, 0), { ...options, maxTokens: 32 }).result).tokens;
const result = {
  placement: {
    devices: model.placement.devices?.map(({ name, layers }) => ({ name, layers })),
    notes: model.placement.notes,
  },
  loadMs: loaded,
  firstAnswerMs: performance.now() - first,
  greedy: createHash("sha256").update(JSON.stringify(greedy)).digest("hex").slice(0, 16),
  prefill: {},
  decode: {}, // while all are decoding
  withPrompts: {}, // from the start, prompts included
};
for (const tokens of job.prompts) {
  const rounds = [];
  for (let i = 0; i < job.rounds; i++) {
    const at = performance.now();
    await model.generate(words(tokens, ++number), { ...options, maxTokens: 1 }).result;
    rounds.push({ rate: (tokens * 1000) / (performance.now() - at) });
  }
  result.prefill[tokens] = medians(rounds).rate;
}
for (const streams of job.streams) {
  const rounds = [];
  for (let i = 0; i < job.rounds; i++) {
    const prompts = Array.from({ length: streams }, () => words(job.promptTokens, ++number));
    const at = performance.now();
    rounds.push(throughput(await Promise.all(prompts.map((prompt) => stream(prompt))), at));
  }
  const { decode, wall } = medians(rounds);
  result.decode[streams] = decode;
  result.withPrompts[streams] = wall;
}
const dispose = performance.now();
await model.dispose();
result.disposeMs = performance.now() - dispose;
console.log(JSON.stringify(result));
process.exit(0);
