// Decoding speed of one stream on one thread, with sampling, beside llama-bench of the same pin, which does not sample.
//
//   node bench/single-stream.mjs [model.gguf]

import { loadModel } from "../dist/index.js";
import { alternate, report } from "./stats.mjs";
import { llamaBench, model as embedded } from "./tools.mjs";

const file = process.argv[2] ?? embedded;
const model = await loadModel(file, { threads: 1 });
const eos = model.info.vocabulary.eos;
const options = {
  temperature: 0.8,
  topK: 40,
  topP: 0.9,
  minP: 0,
  maxTokens: 128,
  ...(eos && { logitBias: { [eos]: -Infinity } }),
};

async function coldstart() {
  let sum = 0;
  for (let seed = 0; seed < 5; seed++) {
    const { timings } = await model.generate("Once upon a time, there was", { ...options, seed }).result;
    sum += timings.tokensPerSecond;
  }
  return sum / 5;
}

const samples = await alternate({ "llama-bench tg128 (no sampling)": () => llamaBench({ file }), coldstart }, 7);
console.log(report("One stream, one thread, temperature 0.8, topK 40, topP 0.9, 128 tokens", "tokens/s", samples));
await model.dispose();
