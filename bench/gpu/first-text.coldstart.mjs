// node first-text.coldstart.mjs MODEL LOAD_MODE: a process that loads a model onto the GPU, says one token and ends. On stderr: when, in
// milliseconds since it started.

const at = {};
const { loadModel } = await import("../../dist/index.js");
at.imported = performance.now();
const model = await loadModel(process.argv[2], {
  contextLength: 256,
  gpuLayers: "max",
  loadMode: process.argv[3],
  onProgress: () => {
    at.planned ??= performance.now();
    at.weights = performance.now();
  },
});
at.loaded = performance.now();
for await (const { text } of model.generate("hello", { maxTokens: 1, temperature: 0 })) {
  at.firstToken ??= performance.now();
  process.stdout.write(text);
}
await model.dispose();
at.disposed = performance.now();
process.stderr.write(JSON.stringify(at));
