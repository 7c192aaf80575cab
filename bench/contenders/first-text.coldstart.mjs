import fs from "node:fs";
import { loadModel } from "../../dist/index.js";

const model = await loadModel(process.argv[2], { contextLength: 256, threads: 1 });
for await (const { text } of model.generate("Once upon a time, there was", { maxTokens: 8 })) fs.writeSync(3, text);
await model.dispose();
