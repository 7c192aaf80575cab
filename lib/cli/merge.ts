import { mergeModel } from "../gguf/merge-model.js";
import { formatBytes } from "./format.js";
import { interruptible } from "./interruptible.js";
import { withProgress } from "./progress.js";

export interface MergeFlags {
  json?: boolean;
  quiet?: boolean;
}

export async function merge(model: string, output: string, { json = false, quiet = false }: MergeFlags): Promise<void> {
  const result = await interruptible((signal) =>
    withProgress("Merging", quiet || json, (progress) => mergeModel(model, output, { ...progress, signal })),
  );
  if (json) console.log(JSON.stringify(result, null, 2));
  else if (!quiet) console.log(`${result.path}: ${result.tensors} tensors, ${formatBytes(result.bytes)}`);
}
