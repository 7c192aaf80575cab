import { fileURLToPath } from "node:url";
import { getLlama, LlamaCompletion } from "node-llama-cpp";

const llama = await getLlama({ gpu: false, logLevel: "error" });
const model = await llama.loadModel({
  modelPath: fileURLToPath(new URL("../../models/tiny-stories.gguf", import.meta.url)),
});
const context = await model.createContext({ contextSize: 256, threads: 1 });
const completion = new LlamaCompletion({ contextSequence: context.getSequence() });
await completion.generateCompletion("Once upon a time, there was", {
  maxTokens: 8,
  onTextChunk: (text) => process.stdout.write(text),
});
await llama.dispose();
