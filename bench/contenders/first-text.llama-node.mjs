import fs from "node:fs";
import { loadModel } from "@fugood/llama.node";

const context = await loadModel({ model: process.argv[2], n_ctx: 256, n_parallel: 1, n_threads: 1, n_gpu_layers: 0 });
await context.completion({ prompt: "Once upon a time, there was", n_predict: 8 }, ({ token }) =>
  fs.writeSync(3, token),
);
await context.release();
