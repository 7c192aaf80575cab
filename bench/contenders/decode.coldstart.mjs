// Prints tokens a second of one stream: node decode.coldstart.mjs <model> <threads>

import { loadModel } from "../../dist/index.js";

const model = await loadModel(process.argv[2], { threads: Number(process.argv[3]), contextLength: 256, parallel: 1 });
const options = { maxTokens: 128, logitBias: { [model.info.vocabulary.eos]: -Infinity }, seed: 1 };
let sum = 0;
const rounds = 4;
for (let round = 0; round < rounds; round++) {
  sum += (await model.generate("Once upon a time, there was", options).result).timings.tokensPerSecond;
}
console.log(sum / rounds);
await model.dispose();
