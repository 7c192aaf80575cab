// job: model, load, turns, userTokens, tokens

import { loadModel } from "../../dist/index.js";
import { sampling, timeToFirstToken } from "./coldstart.mjs";
import { conversation } from "./conversation.mjs";
import { job, report, words } from "./job.mjs";

const model = await loadModel(job.model, job.load);
const options = sampling(model, job.tokens);
await model.generate(words(16, 1), { maxTokens: 8 }).result;
const times = await conversation(job, (prompt, seed) => timeToFirstToken(model, prompt, { ...options, seed }));
await model.dispose();
await report(times);
