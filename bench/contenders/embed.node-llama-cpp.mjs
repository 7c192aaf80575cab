// job: model, threads, texts, words (fewest and most of a text), repeat

import { getLlama } from "node-llama-cpp";
import { measure } from "./embed.mjs";
import { job } from "./job.mjs";

const llama = await getLlama({ gpu: false, logLevel: "error", maxThreads: job.threads });
const model = await llama.loadModel({ modelPath: job.model });
const context = await model.createEmbeddingContext({ threads: job.threads });
await measure(
  (texts) => Promise.all(texts.map(async (text) => (await context.getEmbeddingFor(text)).vector)),
  () => llama.dispose(),
);
