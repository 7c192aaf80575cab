// job: model, load, temperature, copies, tokens, repeat
//
// The prompt says the phrase of bench/copying-model.ts several times, and the model goes on with it.

import { loadModel } from "../../dist/index.js";
import { medians } from "../report/stats.mjs";
import { sampling } from "./coldstart.mjs";
import { job, report } from "./job.mjs";

const PHRASE = Array.from({ length: 24 }, (_, i) => 300 + i);

const model = await loadModel(job.model, job.load);
const options = { ...sampling(model, job.tokens), temperature: job.temperature };
const prompt = Array(job.copies).fill(PHRASE).flat();
const rounds = [];
for (let seed = 0; seed <= job.repeat; seed++) {
  const { timings, tokens } = await model.generate(prompt, { ...options, seed }).result;
  rounds.push({ decode: timings.tokensPerSecond, guessed: timings.acceptedTokens / tokens.length });
}
await model.dispose();
await report(medians(rounds.slice(1))); // the first one reads the weights
