import { statSync } from "node:fs";
import path from "node:path";
import { convertAdapter, isAdapterFolder, type ConvertAdapterResult } from "../huggingface/convert-adapter.js";
import { convertModel, type ConvertOptions, type ConvertResult } from "../huggingface/convert-model.js";
import { invalidOption } from "../options.js";
import { formatBytes } from "./format.js";
import { given } from "./given.js";
import { interruptible } from "./interruptible.js";
import { withProgress } from "./progress.js";

export interface ConvertFlags {
  type?: NonNullable<ConvertOptions["type"]>;
  base?: string;
  json?: boolean;
  quiet?: boolean;
}

export async function convert(folder: string, file: string, flags: ConvertFlags): Promise<void> {
  const { type, base, json = false, quiet = false } = flags;
  const output = outputPath(folder, file);
  const isAdapter = await isAdapterFolder(folder);
  if (base !== undefined && !isAdapter) throw invalidOption("base", base, "left out for what is no adapter");
  const [result, text] = await interruptible((signal) =>
    withProgress("Converting", quiet || json, async (progress) => {
      const options = { ...given({ type }), ...progress, signal };
      if (isAdapter) {
        const adapter = await convertAdapter(folder, output, { ...options, ...given({ base }) });
        return [adapter, ofAdapter(output, adapter)] as const;
      }
      const model = await convertModel(folder, output, options);
      return [model, summary(output, model)] as const;
    }),
  );
  if (json) console.log(JSON.stringify({ path: output, ...result }, null, 2));
  else if (!quiet) console.log(text);
}

function ofAdapter(output: string, { architecture, layers, rank, bytes }: ConvertAdapterResult): string {
  return `${output}: an adapter for ${architecture}, ${layers} layers, rank ${rank}, ${formatBytes(bytes)}`;
}

/** In a folder, a file with the model's name. */
function outputPath(folder: string, file: string): string {
  const isFolder = statSync(file, { throwIfNoEntry: false })?.isDirectory() ?? false;
  return isFolder ? path.join(file, `${path.basename(path.resolve(folder))}.gguf`) : file;
}

function summary(output: string, { architecture, tensors, bytes, type, notes }: ConvertResult): string {
  return [`${output}: ${architecture}, ${tensors} tensors, ${type}, ${formatBytes(bytes)}`, ...notes].join("\n");
}
