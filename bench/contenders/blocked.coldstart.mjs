// job: model, load, tokens, repeat, blockMs and everyMs (of each `everyMs`, JavaScript is busy for `blockMs`)
//
// Speed is by the engine's own clock: a blocked JavaScript thread sees tokens late, whenever they were made.

import { setInterval, clearInterval } from "node:timers";
import { loadModel } from "../../dist/index.js";
import { median } from "../report/stats.mjs";
import { sampling } from "./coldstart.mjs";
import { job, report, words } from "./job.mjs";

const model = await loadModel(job.model, job.load);
const options = sampling(model, job.tokens);
await model.generate(words(16, 0), { maxTokens: 8 }).result;

const block = () => {
  for (const end = performance.now() + job.blockMs; performance.now() < end;);
};
const timer = job.blockMs > 0 ? setInterval(block, job.everyMs) : undefined;
const speeds = [];
for (let seed = 0; seed < job.repeat; seed++) {
  const { timings } = await model.generate(words(16, 1 + seed), { ...options, seed }).result;
  speeds.push(timings.tokensPerSecond);
}
clearInterval(timer);
await model.dispose();
await report({ decode: median(speeds) });
