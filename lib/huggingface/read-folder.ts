// A folder in Hugging Face's layout, as the GGUF file that it would be.

import { stat } from "node:fs/promises";
import path from "node:path";
import { ColdstartError } from "../errors.js";
import { bytesOf, encodeHeader, string, uint32, type Entry, type OutputType } from "../gguf/encode.js";
import type { NativeCheckpoint } from "../native.js";
import { invalidCheckpoint } from "./errors.js";
import { metadataOf } from "./families/decoder.js";
import { readDecoder } from "./families/index.js";
import { readOptionalObject, type JsonObject } from "./json.js";
import { readCheckpoint } from "./safetensors.js";
import { readTokenizer } from "./tokenizer/index.js";
import { planWeights, type PlannedTensor } from "./weights.js";

export interface FolderModel {
  /** GGUF's name: `"llama"`, `"qwen3"`, … */
  architecture: string;
  checkpoint: NativeCheckpoint;
  tensors: PlannedTensor[];
  /** Of most weights. */
  type: OutputType;
}

/**
 * Checks everything but the weights themselves; what is not known is an error that names it.
 *
 * @param type of matrices; `"auto"`: as they are, F16 for those of 8 bits
 *
 * Rejects with `MODEL_NOT_FOUND`, `INVALID_CHECKPOINT`, `UNSUPPORTED_MODEL`, `LOAD_FAILED`.
 */
export async function readFolder(folder: string, type: OutputType | "auto"): Promise<FolderModel> {
  await checkFolder(folder);
  const config = await readOptionalObject(folder, "config.json");
  if (config === undefined) {
    throw invalidCheckpoint(
      `${folder} has no config.json.`,
      { path: folder },
      "Give the folder of a model in Hugging Face's layout.",
    );
  }
  const decoder = readDecoder(config);
  const tensors = planWeights(decoder, await readCheckpoint(folder), type);
  const main = mainType(tensors);
  const metadata = [
    ...metadataOf(decoder),
    ...general(folder, config, main),
    ...(await readTokenizer(folder, config, decoder.vocabularySize)),
  ];
  const { architecture } = decoder;
  return { architecture, checkpoint: toCheckpoint(metadata, tensors), tensors, type: main };
}

async function checkFolder(folder: string): Promise<void> {
  const found = await stat(folder).catch(() => undefined);
  if (found?.isDirectory()) return;
  throw new ColdstartError("MODEL_NOT_FOUND", found ? `${folder} is no folder.` : `There is no folder at ${folder}.`, {
    remedy: "Give the path of a folder with config.json and safetensors files.",
    details: { path: folder },
  });
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

function mainType(tensors: readonly PlannedTensor[]): OutputType {
  const bytes = new Map<OutputType, number>();
  for (const tensor of tensors) bytes.set(tensor.type, (bytes.get(tensor.type) ?? 0) + bytesOf(tensor));
  return [...bytes].sort((a, b) => b[1] - a[1])[0]?.[0] ?? "F32";
}

function toCheckpoint(metadata: readonly Entry[], tensors: readonly PlannedTensor[]): NativeCheckpoint {
  const files = [...new Set(tensors.flatMap(({ sources }) => sources.map(({ file }) => file)))];
  const numbers = new Map(files.map((file, i) => [file, i]));
  return {
    header: encodeHeader(metadata, tensors).header,
    files,
    tensors: tensors.map(({ sources, values, interleave, add }) => ({
      pieces: sources.map(({ name, file, offset, type }) => ({ name, file: numbers.get(file) ?? 0, offset, type })),
      ...(values && { values }),
      interleave,
      add,
    })),
  };
}
