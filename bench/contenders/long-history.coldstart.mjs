// job: model, load, depths (tokens of history, rising), tokens, repeat; reports milliseconds a token for each depth

import { loadModel } from "../../dist/index.js";
import { median } from "../report/stats.mjs";
import { sampling } from "./coldstart.mjs";
import { job, report, words } from "./job.mjs";

const model = await loadModel(job.model, job.load);
const options = sampling(model, job.tokens);
const history = words(job.depths.at(-1), 0);
const times = {};
for (const depth of job.depths) {
  const prompt = history.slice(0, depth);
  await model.generate(prompt, { maxTokens: 1 }).result; // Now the history is in the cache.
  const samples = [];
  for (let seed = 0; seed < job.repeat; seed++) {
    const { timings } = await model.generate(prompt, { ...options, seed }).result;
    samples.push(1000 / timings.tokensPerSecond);
  }
  times[depth] = median(samples);
}
await model.dispose();
await report(times);
