import { splitModel, type SplitOptions } from "../gguf/split-model.js";
import { formatBytes, formatTable } from "./format.js";
import { given } from "./given.js";
import { interruptible } from "./interruptible.js";
import { withProgress } from "./progress.js";

export interface SplitFlags extends Pick<SplitOptions, "maxTensors" | "metadataFirst" | "dryRun"> {
  maxSize?: number;
  json?: boolean;
  quiet?: boolean;
}

export async function split(model: string, prefix: string, flags: SplitFlags): Promise<void> {
  const { maxTensors, maxSize, metadataFirst, dryRun, json = false, quiet = false } = flags;
  const options = given({ maxTensors, maxBytes: maxSize, metadataFirst, dryRun });
  const result = await interruptible((signal) =>
    withProgress("Splitting", quiet || json, (progress) =>
      splitModel(model, prefix, { ...options, ...progress, signal }),
    ),
  );
  if (json) console.log(JSON.stringify(result, null, 2));
  else if (!quiet)
    console.log(
      formatTable(result.files.map(({ path, bytes, tensors }) => [path, `${tensors} tensors`, formatBytes(bytes)])),
    );
}
