import { stat } from "node:fs/promises";
import path from "node:path";
import { ColdstartError } from "../errors.js";
import { OptionReader, toPath } from "../options.js";
import { invalidCheckpoint } from "./errors.js";
import { metadataOf } from "./families/decoder.js";
import { readDecoder } from "./families/index.js";
import { bytesOf, string, uint32, type Entry, type OutputType, type TensorInfo } from "./gguf-file.js";
import { readOptionalObject, type JsonObject } from "./json.js";
import { readCheckpoint } from "./safetensors.js";
import { readTokenizer } from "./tokenizer/index.js";
import { planWeights } from "./weights.js";
import { aborted, writeGguf } from "./write-gguf.js";

export interface ConvertOptions {
  /**
   * What matrices are written as; norms, biases and routers are always F32. `"auto"` is what they are in the checkpoint, F16
   * for those of 8 bits. Default `"auto"`.
   */
  type?: "auto" | "F32" | "F16" | "BF16";
  /** Called with 0..1 while weights are written. If it throws, converting ends with that error. */
  onProgress?: (fraction: number) => void;
  /** Ends converting; nothing is left of the file. */
  signal?: AbortSignal;
}

/** What was written. */
export interface ConvertResult {
  /** GGUF's name: `"llama"`, `"qwen3"`, … */
  architecture: string;
  tensors: number;
  /** Of the weights. */
  bytes: number;
  /** Of most weights. */
  type: "F32" | "F16" | "BF16";
}

/**
 * Makes a GGUF file of a model in Hugging Face's layout: a folder with config.json, safetensors files and a tokenizer.
 *
 * Everything is checked before the first weight is written, and what is not known is an error that names it. The file
 * replaces one of the same name, at once, when it is complete. Weights go through buffers of some megabytes.
 *
 * Rejects with `MODEL_NOT_FOUND`, `INVALID_CHECKPOINT`, `UNSUPPORTED_MODEL`, `INVALID_OPTION`, `LOAD_FAILED` when a file cannot
 * be read, `WRITE_FAILED`, `ABORTED`, `NATIVE_ADDON_MISSING`.
 */
export async function convertModel(
  folder: string | URL,
  output: string | URL,
  options: ConvertOptions = {},
): Promise<ConvertResult> {
  const read = new OptionReader(options, ["type", "onProgress", "signal"]);
  const type = read.choice("type", ["auto", "F32", "F16", "BF16"] as const, "auto");
  const onProgress = read.callback("onProgress") as ConvertOptions["onProgress"];
  const signal = read.signal();
  const [from, to] = [
    toPath(folder, "folder", "a path, or a file: URL"),
    toPath(output, "output", "a path, or a file: URL"),
  ];
  await checkFolder(from);
  if (signal?.aborted) throw aborted(signal);

  const config = await readOptionalObject(from, "config.json");
  if (config === undefined) {
    throw invalidCheckpoint(
      `${from} has no config.json.`,
      { path: from },
      "Give the folder of a model in Hugging Face's layout.",
    );
  }
  const decoder = readDecoder(config);
  const tensors = planWeights(decoder, await readCheckpoint(from), type);
  const main = mainType(tensors);
  const metadata = [
    ...metadataOf(decoder),
    ...general(from, config, main),
    ...(await readTokenizer(from, config, decoder.vocabularySize)),
  ];
  await writeGguf(to, metadata, tensors, { onProgress, signal });
  return {
    architecture: decoder.architecture,
    tensors: tensors.length,
    bytes: tensors.reduce((sum, tensor) => sum + bytesOf(tensor), 0),
    type: main,
  };
}

/** llama.h: enum llama_ftype */
const FILE_TYPES: Readonly<Record<OutputType, number>> = { F32: 0, F16: 1, BF16: 32 };

function general(folder: string, config: JsonObject, type: OutputType): Entry[] {
  // Where the model was trained, or its name at Hugging Face; else the folder's.
  const name = path.basename(config.string("_name_or_path") ?? "") || path.basename(path.resolve(folder));
  return [
    string("general.type", "model"),
    string("general.name", name),
    uint32("general.file_type", FILE_TYPES[type]),
    uint32("general.quantization_version", 2),
  ];
}

function mainType(tensors: readonly TensorInfo[]): OutputType {
  const bytes = new Map<OutputType, number>();
  for (const tensor of tensors) bytes.set(tensor.type, (bytes.get(tensor.type) ?? 0) + bytesOf(tensor));
  return [...bytes].sort((a, b) => b[1] - a[1])[0]?.[0] ?? "F32";
}

async function checkFolder(folder: string): Promise<void> {
  const found = await stat(folder).catch(() => undefined);
  if (found?.isDirectory()) return;
  throw new ColdstartError("MODEL_NOT_FOUND", found ? `${folder} is no folder.` : `There is no folder at ${folder}.`, {
    remedy: "Give the path of a folder with config.json and safetensors files.",
    details: { path: folder },
  });
}
