import { loadModel } from "../../dist/index.js";

const model = await loadModel(new URL("../../models/tiny-stories.gguf", import.meta.url), { threads: 1 });
for await (const { text } of model.generate("Once upon a time, there was", { maxTokens: 8 }))
  process.stdout.write(text);
await model.dispose();
