// The options that say what becomes of each tensor, as loadModel() and quantizeModel() take them.

import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { cacheFolder } from "../machine/cache-folder.js";
import type { NativeRecipe } from "../native.js";
import { invalidOption, OptionReader } from "../options.js";
import { QUANTIZATION_TYPES, type QuantizationType } from "./types.js";

export interface QuantizationRecipe {
  /** The mixture. */
  type: QuantizationType;
  /**
   * Path of an importance matrix (GGUF) of this model: which weights matter. `computeImportance()` and llama.cpp's `llama-imatrix` make one. Default: all
   * matter alike.
   */
  importanceMatrix?: string | URL;
  /**
   * Types of tensors whose names match a regular expression, instead of the mixture's; the first that matches counts. A type
   * is one of ggml's: `"q4_K"`, `"q6_K"`, `"f16"`, …
   */
  tensorTypes?: { pattern: string | RegExp; type: string }[];
  /** Of the output matrix. Default: the mixture's. */
  outputTensorType?: string;
  /** Of the token embeddings. Default: the mixture's. */
  tokenEmbeddingType?: string;
  /** Leave the output matrix as it is. Default false. */
  leaveOutputTensor?: boolean;
  /** The mixture's main type for all matrices. Default false. */
  pure?: boolean;
  /** Also quantize what is quantized already, to other than `Q8_0`, which loses twice. Default false. */
  allowRequantize?: boolean;
}

/** The names of a recipe's options. */
export const RECIPE_NAMES = [
  "type", "importanceMatrix", "tensorTypes", "outputTensorType", "tokenEmbeddingType", "leaveOutputTensor", "pure",
  "allowRequantize",
] as const satisfies readonly (keyof QuantizationRecipe)[]; // prettier-ignore

/** Throws `INVALID_OPTION`. What tensors a model has is checked when its header is read. */
export function checkRecipe(read: OptionReader, prefix = ""): NativeRecipe {
  const type = read.raw("type");
  if (!QUANTIZATION_TYPES.includes(type as QuantizationType)) throw unknownType(`${prefix}type`, type);
  return {
    type: type as QuantizationType,
    importanceMatrix: checkMatrix(read, prefix),
    tensorTypes: checkTensorTypes(read, prefix),
    outputTensorType: read.string("outputTensorType", ""),
    tokenEmbeddingType: read.string("tokenEmbeddingType", ""),
    leaveOutputTensor: read.boolean("leaveOutputTensor", false),
    pure: read.boolean("pure", false),
    allowRequantize: read.boolean("allowRequantize", false),
  };
}

/** The option `quantize` of `loadModel()`: a type, or a whole recipe. */
export function checkQuantize(read: OptionReader): NativeRecipe | undefined {
  const value = read.raw("quantize");
  if (value === undefined) return undefined;
  if (typeof value !== "object") {
    if (!QUANTIZATION_TYPES.includes(value as QuantizationType)) throw unknownType("quantize", value);
    return checkRecipe(new OptionReader({ type: value }, RECIPE_NAMES));
  }
  return checkRecipe(read.nested("quantize", RECIPE_NAMES), "quantize.");
}

/** The folder that `quantizeCache` means. */
export function checkQuantizeCache(read: OptionReader): string | undefined {
  const value = read.raw("quantizeCache") ?? false;
  if (value === false) return undefined;
  if (read.raw("quantize") === undefined) throw invalidOption("quantizeCache", value, "false without quantize");
  if (value === true) return join(cacheFolder(), "quantized");
  if (typeof value !== "string" || value === "") throw invalidOption("quantizeCache", value, "true, false or a folder");
  return resolve(value);
}

function unknownType(option: string, value: unknown): Error {
  return invalidOption(option, value, `one of ${QUANTIZATION_TYPES.join(", ")}`);
}

function checkMatrix(read: OptionReader, prefix: string): string {
  const value = read.raw("importanceMatrix");
  if (value === undefined) return "";
  if (value instanceof URL && value.protocol === "file:") return fileURLToPath(value);
  if (typeof value !== "string" || value === "" || value.includes("\0"))
    throw invalidOption(`${prefix}importanceMatrix`, value, "the path of a GGUF file, or a file: URL");
  return resolve(value);
}

function checkTensorTypes(read: OptionReader, prefix: string): [pattern: string, type: string][] {
  const value = read.raw("tensorTypes") ?? [];
  const option = `${prefix}tensorTypes`;
  if (!Array.isArray(value)) throw invalidOption(option, value, "an array of { pattern, type }");
  return value.map((entry: unknown, i): [string, string] => {
    const one = new OptionReader(entry, ["pattern", "type"], `${option}[${i}].`);
    return [one.pattern("pattern"), one.string("type", "")];
  });
}
