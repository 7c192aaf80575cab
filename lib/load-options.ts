// The options of loadModel(), checked and made into the engine's.

import fs from "node:fs";
import os from "node:os";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { listDevices } from "./devices.js";
import type { NativeEngineOptions } from "./native.js";
import { invalidOption, OptionReader } from "./options.js";

/** Types of a KV cache's keys and values: fewer bits, less memory, some loss. */
export type KvCacheType = "f32" | "f16" | "bf16" | "q8_0" | "q4_0" | "q4_1" | "iq4_nl" | "q5_0" | "q5_1";

export interface LoadOptions {
  /** Most tokens of one generation, prompt and answer. Default: what the model was trained for, at most 8192. */
  contextLength?: number;
  /** Layers to put on GPUs, or `"max"`. Default `"max"`; without a GPU 0. */
  gpuLayers?: number | "max";
  /** Map the file instead of copying it: faster to start, and processes share the memory. Default true. */
  mmap?: boolean;
  /** Lock the weights in memory, so that they are never swapped out. Default false. */
  mlock?: boolean;
  /** Look for NaN and infinite weights while loading. Reads the whole file. Default false. */
  checkTensors?: boolean;
  /**
   * CPU threads to compute with. Default `"auto"`: as many as there are cores, counting two hyperthreads as one, and fewer
   * while other processes need the cores. The tokens do not depend on it.
   */
  threads?: number | "auto";
  /** Most tokens computed in one step. Default 512. */
  batchSize?: number;
  /** Most prompt tokens computed in a step in which other generations get a token. Default 128. */
  prefillBudget?: number;
  /** Most generations at the same time, 1 to 254; more wait their turn. Default 8. */
  parallel?: number;
  /** Most generations that wait; one more fails with `QUEUE_FULL`. Default 1024. */
  maxQueue?: number;
  kvCache?: {
    /** Default `f16`. */
    keyType?: KvCacheType;
    /** Default `f16`. Anything below 16 bits needs flash attention. */
    valueType?: KvCacheType;
    /**
     * `"unified"` (default): one pool of tokens for all generations, and common beginnings are kept once.
     * `"split"`: a pool of equal size for each of `parallel`.
     */
    layout?: "unified" | "split";
    /** Tokens it holds, of all generations and of what is kept for later. Default: `contextLength`; split: for each of `parallel`. */
    capacity?: number;
    /** Where prefixes go that had to leave the KV cache, to come back when they are asked for again. */
    spill?: {
      /** Most bytes of them, taken as needed; 0 drops them. Default 256 MiB. */
      bytes?: number;
      /** Keep them in files of this directory, which have no names there and vanish with the process. Default: in main memory. */
      directory?: string;
    };
  };
  /** Keep what was computed, for prompts that begin alike. Default true. */
  prefixCache?: boolean;
  /**
   * The same request with the same seed gives the same tokens whatever else runs at the same time. Each generation is
   * computed by itself, in a `"split"` layout, and does not share steps with others: with several at a time it is slower.
   * Default false: alone the tokens are always the same, in company a near tie may fall the other way.
   */
  deterministic?: boolean;
  /** Compute attention without keeping its whole matrix. Default `"auto"`: where the devices support it. */
  flashAttention?: boolean | "auto";
  /**
   * Guess several tokens at a time and check them in one step. The answers are those that the model gives without it; it
   * is faster where guesses are good, and costs some memory. Default: none.
   *
   * - `"lookup"`: what followed the same words earlier in the text. For answers that repeat much of their prompt: code to
   *   edit, texts to quote.
   * - `"draft"`: what a smaller model of the same family says.
   * - `"mtp"`: what the model's own heads for multi-token prediction say, where it was trained and converted with them.
   */
  speculative?: SpeculativeOptions;
  /** Generations without a seed use this one, then the next higher, and so on: a run of the program can be repeated. Default: random. */
  seed?: number;
  /** Called with 0..1 while loading. If it throws, loading ends with that error. */
  onProgress?: (fraction: number) => void;
  /** Gives up loading: rejects with `ABORTED`. */
  signal?: AbortSignal;
}

export type SpeculativeOptions =
  | {
      type: "lookup";
      /** Most tokens of one guess, 1 to 64. Default 16. */
      draftTokens?: number;
      /** Tokens in a row that must have occurred before, 1 to 32. Default 4. */
      match?: number;
    }
  | {
      type: "draft";
      /** Path of the draft model: same vocabulary. */
      model: string | URL;
      /** Most tokens of one guess, 1 to 64. Default 8. */
      draftTokens?: number;
      /** A guess ends before a token that the draft model finds less likely than this, 0 to 1. Default 0.5. */
      minProbability?: number;
      /** Its layers on GPUs. Default `"max"`. */
      gpuLayers?: number | "max";
    }
  | {
      type: "mtp";
      /** Most tokens of one guess, 1 to 64. Default 3. */
      draftTokens?: number;
      /** A guess ends before a token that the heads find less likely than this, 0 to 1. Default 0.5. */
      minProbability?: number;
    };

const NAMES = [
  "contextLength", "gpuLayers", "mmap", "mlock", "checkTensors", "threads", "batchSize", "prefillBudget", "parallel", "maxQueue",
  "kvCache", "prefixCache", "deterministic", "speculative", "flashAttention", "seed", "onProgress", "signal",
] as const satisfies readonly (keyof LoadOptions)[]; // prettier-ignore

const KV_TYPES = [
  "f32",
  "f16",
  "bf16",
  "q8_0",
  "q4_0",
  "q4_1",
  "iq4_nl",
  "q5_0",
  "q5_1",
] as const satisfies readonly KvCacheType[];
const FLASH_ATTENTION = { auto: -1, false: 0, true: 1 } as const;
const INT32_MAX = 2 ** 31 - 1;
// llama.cpp's LLAMA_MAX_SEQ, less the one that states are saved through, and one to share a prefix from.
const MAX_PARALLEL = 254;
const MIB = 2 ** 20;

/** The engine's options, and what stays in JavaScript. */
export interface CheckedLoad {
  native: NativeEngineOptions;
  /** What is not as one might expect, and why. */
  notes: string[];
  seed: number | undefined;
  onProgress: LoadOptions["onProgress"];
  signal: AbortSignal | undefined;
}

/** Throws `INVALID_OPTION`. */
export function checkLoad(path: unknown, options: LoadOptions): CheckedLoad {
  const read = new OptionReader(options, NAMES);
  const notes: string[] = [];
  return {
    native: checkEngineOptions(toPath(path), read, notes),
    notes,
    seed: read.integer("seed", 0, 2 ** 32 - 2, undefined),
    onProgress: read.callback("onProgress") as LoadOptions["onProgress"],
    signal: read.signal(),
  };
}

/** @internal A path to a model, from what a user may pass as one. */
export function toPath(path: unknown): string {
  if (path instanceof URL && path.protocol === "file:") return fileURLToPath(path);
  if (typeof path !== "string" || path === "" || path.includes("\0"))
    throw invalidOption("path", path, "the path of a GGUF file, or a file: URL");
  return path;
}

function checkEngineOptions(path: string, read: OptionReader, notes: string[]): NativeEngineOptions {
  const kvCache = read.nested("kvCache", ["keyType", "valueType", "layout", "capacity", "spill"]);
  const spill = kvCache.nested("spill", ["bytes", "directory"]);
  const deterministic = read.boolean("deterministic", false);
  const layout = kvCache.choice("layout", ["unified", "split"] as const, deterministic ? "split" : "unified");
  if (deterministic && layout === "unified") {
    throw invalidOption("kvCache.layout", layout, "split when deterministic is true");
  }
  const contextLength = read.integer("contextLength", 1, INT32_MAX, 0);
  const parallel = read.integer("parallel", 1, MAX_PARALLEL, 8);
  const pools = layout === "split" ? parallel : 1;
  if (contextLength * pools > INT32_MAX) {
    throw invalidOption(
      "contextLength",
      contextLength,
      `at most ${Math.floor(INT32_MAX / pools)} with parallel ${parallel}`,
    );
  }
  const keyType = kvCache.choice("keyType", KV_TYPES, "f16");
  const valueType = kvCache.choice("valueType", KV_TYPES, "f16");
  const flashAttention = read.choice("flashAttention", ["auto", true, false] as const, "auto");
  if (flashAttention === false && !["f32", "f16", "bf16"].includes(valueType)) {
    throw invalidOption("kvCache.valueType", valueType, "f32, f16 or bf16 when flashAttention is false");
  }
  const adaptThreads = (read.raw("threads") ?? "auto") === "auto";
  return {
    path,
    gpuLayers: checkGpuLayers(read, notes),
    mmap: read.boolean("mmap", true),
    mlock: read.boolean("mlock", false),
    checkTensors: read.boolean("checkTensors", false),
    contextLength,
    kvCells: kvCache.integer("capacity", Math.max(1, contextLength * pools), INT32_MAX, 0),
    kvUnified: layout === "unified",
    spillBytes: spill.integer("bytes", 0, Number.MAX_SAFE_INTEGER, 256 * MIB),
    spillDirectory: checkDirectory(spill.string("directory", "")),
    prefixCache: read.boolean("prefixCache", true),
    deterministic,
    batchSize: read.integer("batchSize", 1, 65_536, 512),
    prefillBudget: read.integer("prefillBudget", 1, 65_536, 128),
    parallel,
    maxQueue: read.integer("maxQueue", 0, INT32_MAX, 1024),
    threads: adaptThreads ? defaultThreads() : read.integer("threads", 1, 512, 1),
    adaptThreads,
    ...checkSpeculative(read, notes),
    keyType,
    valueType,
    flashAttention: FLASH_ATTENTION[`${flashAttention}`],
  };
}

type NativeSpeculation = Pick<
  NativeEngineOptions,
  "speculation" | "draftTokens" | "match" | "minProbability" | "draftModel" | "draftGpuLayers"
>;

function checkSpeculative(read: OptionReader, notes: string[]): NativeSpeculation {
  const none = { draftTokens: 0, match: 0, minProbability: 0, draftModel: "", draftGpuLayers: 0 };
  const wanted = read.raw("speculative");
  if (wanted === undefined) return { speculation: "none", ...none };
  const type = typeof wanted === "object" && wanted !== null && "type" in wanted ? wanted.type : wanted;
  if (type === "lookup") {
    const lookup = read.nested("speculative", ["type", "draftTokens", "match"]);
    return {
      ...none,
      speculation: "lookup",
      draftTokens: lookup.integer("draftTokens", 1, 64, 16),
      match: lookup.integer("match", 1, 32, 4),
    };
  }
  if (type === "draft") {
    const draft = read.nested("speculative", ["type", "model", "draftTokens", "minProbability", "gpuLayers"]);
    return {
      ...none,
      speculation: "draft",
      draftTokens: draft.integer("draftTokens", 1, 64, 8),
      minProbability: draft.number("minProbability", { min: 0, max: 1 }, 0.5),
      draftModel: toPath(draft.raw("model")),
      draftGpuLayers: checkGpuLayers(draft, notes),
    };
  }
  if (type === "mtp") {
    const mtp = read.nested("speculative", ["type", "draftTokens", "minProbability"]);
    return {
      ...none,
      speculation: "mtp",
      draftTokens: mtp.integer("draftTokens", 1, 64, 3),
      minProbability: mtp.number("minProbability", { min: 0, max: 1 }, 0.5),
    };
  }
  throw invalidOption("speculative.type", type, `"lookup", "draft" or "mtp"`);
}

/** An absolute path, or "" where none was given. */
function checkDirectory(directory: string): string {
  if (directory === "") return "";
  if (!fs.statSync(directory, { throwIfNoEntry: false })?.isDirectory()) {
    throw invalidOption("kvCache.spill.directory", directory, "a directory that exists");
  }
  return resolve(directory);
}

/** Layers for the GPU; -1 for all. */
function checkGpuLayers(read: OptionReader, notes: string[]): number {
  const wanted = read.raw("gpuLayers");
  const layers = wanted === "max" ? -1 : read.integer("gpuLayers", 0, INT32_MAX, -1);
  if (layers === 0) return 0;
  if (listDevices().some(({ type }) => type === "gpu" || type === "igpu")) return layers;
  if (wanted !== undefined)
    notes.push(`gpuLayers is ${wanted as string}, and no GPU was found: all layers are on the CPU.`);
  return 0;
}

/** Threads beyond the number of cores only spin: with hyperthreads, half of the logical processors. */
function defaultThreads(): number {
  const processors = os.availableParallelism();
  return Math.max(1, hasHyperthreads() ? Math.floor(processors / 2) : processors);
}

function hasHyperthreads(): boolean {
  if (process.platform !== "linux") return false;
  try {
    return fs.readFileSync("/sys/devices/system/cpu/smt/active", "utf8").trim() === "1";
  } catch {
    return false; // Not all kernels and containers say; then every processor counts as a core.
  }
}
