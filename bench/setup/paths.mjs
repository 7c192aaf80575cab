// Where things are.

import path from "node:path";

export const root = path.resolve(import.meta.dirname, "..", "..");
export const bench = path.join(root, "bench");

/** The file of a model: `"tiny-stories"`, the embedded one, or one that bench/models.ts makes. */
export function model(name) {
  return name === "tiny-stories"
    ? path.join(root, "models", "tiny-stories.gguf")
    : path.join(bench, "models", `${name}.gguf`);
}
