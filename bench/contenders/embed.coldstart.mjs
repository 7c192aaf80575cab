// job: model, threads, texts, words (fewest and most of a text), repeat

import { loadModel } from "../../dist/index.js";
import { measure } from "./embed.mjs";
import { job } from "./job.mjs";

const model = await loadModel(job.model, { threads: job.threads });
await measure(
  async (texts) => (await model.embed(texts)).vectors,
  () => model.dispose(),
);
