// How the weights of a checkpoint are quantized, as config.json says it.

import { unsupported } from "./errors.js";
import { JsonObject, readOptionalObject } from "./json.js";

export type CheckpointQuantization =
  /**
   * Whole numbers for each weight, with a scale and a zero for each group of a column's weights: GPTQ (Frantar et al. 2022,
   * arXiv:2210.17323) as AutoGPTQ and GPTQModel write it, AWQ (Lin et al. 2023, arXiv:2306.00978) as AutoAWQ does.
   */
  | {
      method: "gptq" | "awq";
      bits: number;
      /** Weights of a group; undefined: all of an output. */
      groupSize: number | undefined;
      /** All zeros are in the middle. */
      symmetric: boolean;
      /** Zeros are stored less 1. */
      zerosLessOne: boolean;
    }
  /** Numbers of 8 bits, with a scale for each block of so many rows and columns, for each row, or for the whole. */
  | { method: "fp8"; block: readonly [number, number] | undefined };

/** Settings of GPTQ that change where the numbers are. */
const GPTQ_FORMATS = ["gptq", "gptq_v2"];

/** Undefined: it is not quantized. */
export async function readQuantization(
  folder: string,
  config: JsonObject,
): Promise<CheckpointQuantization | undefined> {
  // AutoGPTQ wrote a file of its own before config.json had it.
  const settings = config.object("quantization_config") ?? (await readOptionalObject(folder, "quantize_config.json"));
  if (settings === undefined) return undefined;
  const method = settings.string("quant_method") ?? (settings.get("bits") === undefined ? "unknown" : "gptq");
  switch (method.toLowerCase()) {
    case "gptq":
      return readGptq(settings);
    case "awq":
      return readAwq(settings);
    case "fp8":
    case "fbgemm_fp8":
      return { method: "fp8", block: readBlock(settings) };
    case "compressed-tensors":
      return readCompressedTensors(settings);
    default:
      throw unsupported(
        `The weights are quantized by the method ${JSON.stringify(method)}; known: gptq, awq, fp8, and compressed-tensors of 8-bit floats.`,
        { quantization: method },
        "Use the checkpoint that was not quantized.",
      );
  }
}

function readGptq(settings: JsonObject): CheckpointQuantization {
  const format = settings.string("checkpoint_format") ?? "gptq";
  const marlin = settings.boolean("is_marlin_format", false) ? "marlin" : undefined;
  const named = marlin ?? (GPTQ_FORMATS.includes(format) ? undefined : format);
  if (named !== undefined) throw unknown("gptq", "checkpoint_format", named, GPTQ_FORMATS);
  // Which modules are quantized is seen from their tensors; that some are so differently is not.
  const dynamic = settings.object("dynamic");
  if (dynamic !== undefined && dynamic.keys().length > 0)
    throw unknown("gptq", "dynamic", dynamic.keys().join(", ").slice(0, 80), ["none"]);
  const packing = settings.string("pack_dtype") ?? "int32";
  if (packing !== "int32") throw unknown("gptq", "pack_dtype", packing, ["int32"]);
  return {
    method: "gptq",
    bits: readBits(settings, [2, 3, 4, 8]),
    groupSize: readGroupSize(settings, "group_size"),
    symmetric: settings.boolean("sym", true),
    zerosLessOne: format === "gptq",
  };
}

function readAwq(settings: JsonObject): CheckpointQuantization {
  const version = (settings.string("version") ?? "gemm").toLowerCase();
  if (version !== "gemm") throw unknown("awq", "version", version, ["gemm"]);
  if (!settings.boolean("zero_point", true)) throw unknown("awq", "zero_point", "false", ["true"]);
  const key = settings.get("bits") === undefined ? "w_bit" : "bits";
  const groupKey = settings.get("group_size") === undefined ? "q_group_size" : "group_size";
  return {
    method: "awq",
    bits: readBits(settings, [4], key),
    groupSize: readGroupSize(settings, groupKey),
    symmetric: false,
    zerosLessOne: false,
  };
}

function readCompressedTensors(settings: JsonObject): CheckpointQuantization {
  const format = settings.string("format") ?? "unknown";
  const groups = settings.object("config_groups");
  const weights = groups?.keys().map((name) => groups.object(name)?.object("weights"));
  const areFloats = weights?.every((one) => one?.string("type") === "float" && one.number("num_bits") === 8);
  if (format === "float-quantized" && areFloats) return { method: "fp8", block: undefined };
  throw unknown("compressed-tensors", "format", format, ["float-quantized with floats of 8 bits"]);
}

function readBlock(settings: JsonObject): readonly [number, number] | undefined {
  const block = settings.array("weight_block_size");
  if (block === undefined) return undefined;
  const [rows, columns] = block;
  const isCount = (value: unknown): value is number => Number.isInteger(value) && (value as number) > 0;
  if (!isCount(rows) || !isCount(columns))
    throw settings.wrong("weight_block_size", "must be two whole numbers from 1 on");
  return [rows, columns];
}

function readBits(settings: JsonObject, known: readonly number[], key = "bits"): number {
  const bits = settings.number(key);
  if (!known.includes(bits)) throw unknown("weights", key, String(bits), known.map(String));
  return bits;
}

function readGroupSize(settings: JsonObject, key: string): number | undefined {
  if (settings.number(key, -1) === -1) return undefined;
  return settings.count(key);
}

function unknown(method: string, key: string, value: string, known: readonly string[]) {
  return unsupported(
    `The weights are quantized by ${method} with ${key} ${value}; known: ${known.join(", ")}.`,
    { quantization: method, key, value },
    "Use the checkpoint that was not quantized.",
  );
}
