import fs from "node:fs";
import { getLlama, LlamaCompletion } from "node-llama-cpp";

const llama = await getLlama({ gpu: false, logLevel: "error" });
const model = await llama.loadModel({ modelPath: process.argv[2] });
const context = await model.createContext({ contextSize: 256, threads: 1 });
const completion = new LlamaCompletion({ contextSequence: context.getSequence() });
await completion.generateCompletion("Once upon a time, there was", {
  maxTokens: 8,
  onTextChunk: (text) => fs.writeSync(3, text),
});
await llama.dispose();
