import { statSync } from "node:fs";
import path from "node:path";
import { quantizeModel, type QuantizeOptions, type QuantizeResult } from "../quantization/quantize-model.js";
import { invalidOption } from "../options.js";
import { compare, type CompareFlags } from "./compare.js";
import { formatBytes, formatTable } from "./format.js";
import { given } from "./given.js";
import { interruptible } from "./interruptible.js";
import { withProgress } from "./progress.js";

export interface QuantizeFlags
  extends CompareFlags, Partial<Omit<QuantizeOptions, "tensorTypes" | "onProgress" | "signal">> {
  tensorType?: { pattern: string; type: string }[];
}

export async function quantize(input: string, file: string | undefined, flags: QuantizeFlags): Promise<void> {
  const { json = false, quiet = false, tensorType, compare: types, text, chunkLength, svg, ...rest } = flags;
  if (types !== undefined) return compare(input, flags);
  const options = { ...rest, type: rest.type ?? missing("type", "--type <type>, or --compare <types...>") };
  if (file === undefined) return missing("output", "the file to write");
  for (const [option, value] of Object.entries({ text, chunkLength, svg }))
    if (value !== undefined) throw invalidOption(option, value, "left out without --compare");
  const output = outputPath(input, file, options);
  const result = await interruptible((signal) =>
    withProgress("Quantizing", quiet || json, (progress) =>
      quantizeModel(input, output, { ...options, ...given({ tensorTypes: tensorType }), ...progress, signal }),
    ),
  );
  if (json) console.log(JSON.stringify(result, null, 2));
  else if (!quiet) console.log(summary(result, options.dryRun === true));
}

function missing(option: string, expected: string): never {
  throw invalidOption(option, undefined, expected);
}

/** In a folder, a file with the model's name and the type. */
function outputPath(
  input: string,
  file: string,
  { type, keepSplit }: Pick<QuantizeOptions, "type" | "keepSplit">,
): string {
  if (!(statSync(file, { throwIfNoEntry: false })?.isDirectory() ?? false)) return file;
  const name = path.basename(input, ".gguf").replace(/-00001-of-\d{5}$/, "");
  return path.join(file, `${name}-${type}${keepSplit ? "" : ".gguf"}`);
}

function summary(
  { files, tensors, sourceBytes, bytes, bitsPerWeight, device, notes }: QuantizeResult,
  dryRun: boolean,
): string {
  const byType = new Map<string, { count: number; bytes: number }>();
  for (const tensor of tensors) {
    const known = byType.get(tensor.to) ?? { count: 0, bytes: 0 };
    byType.set(tensor.to, { count: known.count + 1, bytes: known.bytes + tensor.bytes });
  }
  const rows = [...byType]
    .sort(([, a], [, b]) => b.bytes - a.bytes)
    .map(([type, { count, bytes }]) => [`  ${type}`, `${count} tensors`, formatBytes(bytes)]);
  const names = files.map((file) => file.path).join(", ");
  const size = `${formatBytes(sourceBytes)} -> ${formatBytes(bytes)}, ${bitsPerWeight.toFixed(2)} bits per weight`;
  const by = device === undefined ? [] : [`  by ${device}`];
  return [`${names}${dryRun ? " would be" : ""}: ${size}`, formatTable(rows), ...by, ...notes].join("\n");
}
