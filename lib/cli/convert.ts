import { statSync } from "node:fs";
import path from "node:path";
import { convertModel, type ConvertOptions, type ConvertResult } from "../huggingface/convert-model.js";
import { formatBytes } from "./format.js";
import { interruptible } from "./interruptible.js";
import { withProgress } from "./progress.js";

export interface ConvertFlags {
  type?: NonNullable<ConvertOptions["type"]>;
  json?: boolean;
  quiet?: boolean;
}

export async function convert(folder: string, file: string, options: ConvertFlags): Promise<void> {
  const output = outputPath(folder, file);
  const result = await interruptible((signal) =>
    withProgress("Converting", options.quiet === true || options.json === true, (progress) =>
      convertModel(folder, output, {
        ...(options.type === undefined ? {} : { type: options.type }),
        ...progress,
        signal,
      }),
    ),
  );
  if (options.json) console.log(JSON.stringify({ path: output, ...result }, null, 2));
  else if (!options.quiet) console.log(summary(output, result));
}

/** In a folder, a file with the model's name. */
function outputPath(folder: string, file: string): string {
  const isFolder = statSync(file, { throwIfNoEntry: false })?.isDirectory() ?? false;
  return isFolder ? path.join(file, `${path.basename(path.resolve(folder))}.gguf`) : file;
}

function summary(output: string, { architecture, tensors, bytes, type, notes }: ConvertResult): string {
  return [`${output}: ${architecture}, ${tensors} tensors, ${type}, ${formatBytes(bytes)}`, ...notes].join("\n");
}
