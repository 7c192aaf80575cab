// job: model, load, requests, prefixTokens, promptTokens, tokens; all requests are made at once

import { loadModel } from "../../dist/index.js";
import { median } from "../report/stats.mjs";
import { sampling, timeToFirstToken } from "./coldstart.mjs";
import { job, report, words } from "./job.mjs";

const model = await loadModel(job.model, job.load);
const options = sampling(model, job.tokens);
await model.generate(words(16, 1), { maxTokens: 8 }).result;

const prefix = words(job.prefixTokens, 0);
const started = performance.now();
const answers = await Promise.all(
  Array.from({ length: job.requests }, (_, i) =>
    timeToFirstToken(model, [...prefix, ...words(job.promptTokens, 2 + i)], { ...options, seed: i }),
  ),
);
const all = performance.now() - started;
await model.dispose();
await report({ "first token": median(answers.map(({ first }) => first)), "all answers": all });
