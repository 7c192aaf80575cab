// A folder in Hugging Face's layout, as the GGUF file that it would be.

import { stat } from "node:fs/promises";
import path from "node:path";
import { ColdstartError } from "../errors.js";
import { encodeHeader, string, uint32, type Entry, type OutputType, type PlainType } from "../gguf/encode.js";
import type { NativeCheckpoint, NativePackedMatrix, NativePlace } from "../native.js";
import { invalidCheckpoint } from "./errors.js";
import { metadataOf } from "./families/decoder.js";
import { readDecoder } from "./families/index.js";
import { readOptionalObject, type JsonObject } from "./json.js";
import type { PackedMatrix } from "./packed-weights.js";
import { readQuantization } from "./quantization.js";
import { readCheckpoint, type CheckpointTensor } from "./safetensors.js";
import { readTokenizer } from "./tokenizer/index.js";
import { planWeights, type PlannedSource, type PlannedTensor, type QuantizationNotes } from "./weights.js";

export interface FolderModel {
  /** GGUF's name: `"llama"`, `"qwen3"`, … */
  architecture: string;
  checkpoint: NativeCheckpoint;
  tensors: PlannedTensor[];
  /** Of most weights. */
  type: OutputType;
  notes: QuantizationNotes;
}

/**
 * Checks everything but the weights themselves; what is not known is an error that names it.
 *
 * @param type of matrices; `"auto"`: as they are, F16 for those of 8 bits, and for quantized ones that GGUF cannot hold as they are
 *
 * Rejects with `MODEL_NOT_FOUND`, `INVALID_CHECKPOINT`, `UNSUPPORTED_MODEL`, `LOAD_FAILED`.
 */
export async function readFolder(folder: string, type: PlainType | "auto"): Promise<FolderModel> {
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
  const quantization = await readQuantization(folder, config);
  const { tensors, notes } = await planWeights(decoder, await readCheckpoint(folder), type, quantization);
  const main = mainType(tensors);
  const metadata = [
    ...metadataOf(decoder),
    ...general(folder, config, main),
    ...(await readTokenizer(folder, config, decoder.vocabularySize)),
  ];
  const { architecture } = decoder;
  return { architecture, checkpoint: toCheckpoint(metadata, tensors), tensors, type: main, notes };
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
const FILE_TYPES: Readonly<Record<OutputType, number>> = { F32: 0, F16: 1, Q4_0: 2, Q4_1: 3, Q8_0: 7, BF16: 32 };

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
  const weights = new Map<OutputType, number>();
  for (const { type, shape } of tensors) {
    const count = shape.reduce((product, extent) => product * extent, 1);
    weights.set(type, (weights.get(type) ?? 0) + count);
  }
  return [...weights].sort((a, b) => b[1] - a[1])[0]?.[0] ?? "F32";
}

function toCheckpoint(metadata: readonly Entry[], tensors: readonly PlannedTensor[]): NativeCheckpoint {
  const files: string[] = [];
  const numbers = new Map<string, number>();
  const place = ({ file, offset, type }: CheckpointTensor) => {
    const number = numbers.get(file) ?? files.push(file) - 1;
    numbers.set(file, number);
    return { file: number, offset, type };
  };
  const piece = (source: PlannedSource) => {
    if (!("tensor" in source)) return { name: source.name, packed: toPacked(source, place) };
    const { name, tensor, scales } = source;
    return { name, place: place(tensor), ...(scales && { scales: { ...scales, place: place(scales.tensor) } }) };
  };
  return {
    header: encodeHeader(metadata, tensors).header,
    tensors: tensors.map(({ sources, values, interleave, add }) => ({
      pieces: sources.map(piece),
      ...(values && { values }),
      interleave,
      multiply: 1,
      add,
    })),
    files,
  };
}

function toPacked(
  { quantization, codes, zeros, scales, groups, groupSize, outputs, inputs }: PackedMatrix,
  place: (tensor: CheckpointTensor) => NativePlace,
): NativePackedMatrix {
  return {
    ...quantization,
    outputs,
    inputs,
    groupSize,
    ...(groups && { groups }),
    codes: place(codes),
    zeros: place(zeros),
    scales: place(scales),
  };
}
