// node first-text.coldstart.mjs MODEL: a process that loads a model onto the GPU, says one token and ends.

import { loadModel } from "../../dist/index.js";

const model = await loadModel(process.argv[2], { contextLength: 256, gpuLayers: "max" });
for await (const { text } of model.generate("hello", { maxTokens: 1, temperature: 0 })) process.stdout.write(text);
await model.dispose();
