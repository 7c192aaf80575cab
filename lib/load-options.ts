// The options of loadModel(), checked and made into the engine's.

import fs from "node:fs";
import os from "node:os";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { Reserves } from "./fit.js";
import { readContainer } from "./machine/container.js";
import { thisMachine } from "./machine/files.js";
import type { NativeEngineOptions } from "./native.js";
import { invalidOption, OptionReader } from "./options.js";
import { parseEndpoint } from "./workers/endpoint.js";

/** Types of a KV cache's keys and values: fewer bits, less memory, some loss. */
export type KvCacheType = "f32" | "f16" | "bf16" | "q8_0" | "q4_0" | "q4_1" | "iq4_nl" | "q5_0" | "q5_1";

/** How weights get from a model's files to where they are used. */
export type LoadMode = "auto" | "mmap" | "copy" | "direct";

export interface LoadOptions {
  /**
   * Most tokens of one generation, prompt and answer. `"auto"`: what the model was trained for, as far as memory allows.
   * Default: the same, and at most 8192.
   */
  contextLength?: number | "auto";
  /** Layers to put on GPUs and workers, the output layer counted; `"max"`: all. Default `"auto"`: as many as fit. */
  gpuLayers?: number | "max" | "auto";
  /** GPUs to use, by their names in `listDevices()`, in this order. Default: all, integrated ones only if there is no other. */
  devices?: string[];
  /**
   * How a model is split over several devices.
   *
   * - `"layer"` (default): each has some of the layers; they work one after the other, and at the same time on the parts of
   *   a long prompt where the backend can (pipeline parallelism).
   * - `"tensor"`: each has a part of every layer (tensor parallelism). Of the architectures, llama.cpp knows how to split most.
   * - `"row"`: an older kind of it, of CUDA only.
   * - `"none"`: all is on `mainDevice`.
   */
  splitMode?: "layer" | "tensor" | "row" | "none";
  /** Shares of `devices`, in any unit. Default: by free memory. */
  tensorSplit?: number[];
  /** The one for `splitMode: "none"`, and for small parts with `"row"`. Default: the first of `devices`. */
  mainDevice?: string;
  /** Device (`"CPU"`, `"CUDA0"`, …) of the tensors whose names match a regular expression, the first that does. */
  tensorOverrides?: { pattern: string | RegExp; device: string }[];
  /** Layers, from the first, whose experts stay in host memory (mixture-of-experts models), or `"all"`. Default 0. */
  cpuMoeLayers?: number | "all";
  /** Keep the KV cache of a layer where the layer is, instead of in host memory. Default true. */
  kvOffload?: boolean;
  /** What is kept free. */
  memory?: {
    /** Share of the buffers for intermediate results that is kept free in addition. Default 0.15. */
    headroom?: number;
    /** Share of a GPU's memory that is left free. Default 0.2. */
    leaveFree?: number;
    /** Most bytes to use of a device, by name: `{ CUDA0: 8e9 }`. Default: what is free. */
    limits?: Record<string, number>;
  };
  /** Fail instead of falling back: to the CPU without a GPU, to less context than the default, to reading weights from disk. Default false. */
  strict?: boolean;
  /**
   * `"retry"`: when memory is refused, try again with smaller steps, then an 8-bit KV cache, then fewer layers on GPUs,
   * then less context. What you fixed in the options is changed too; `placement.notes` says what. Default `"throw"`.
   */
  onOutOfMemory?: "throw" | "retry";
  /**
   * How weights get from the file to where they are used. Default `"auto"`: what loads this model fastest on this machine
   * (`placement.loadMode` says which).
   *
   * - `"mmap"`: the file is mapped into memory; what can be used as it lies there is not copied, and processes share it.
   * - `"copy"`: read through the page cache.
   * - `"direct"`: read past the page cache. Linux only; elsewhere, and where the file system refuses it, like `"copy"`
   *   with a note in `placement.notes`.
   */
  loadMode?: LoadMode;
  /**
   * Read the file ahead, several requests at a time, while it is loaded. Not with `"direct"`, and not where it does not fit
   * into free memory (`placement.prefetch` says whether). Default true.
   */
  prefetch?: boolean;
  /** Lock the weights in memory, so that they are never swapped out. Not with `"direct"`. Default false. */
  mlock?: boolean;
  /** Look for NaN and infinite weights while loading. Reads the whole file. Default false. */
  checkTensors?: boolean;
  /**
   * CPU threads to compute with. Default `"auto"`: as many as there are cores, counting two hyperthreads as one, no more than a
   * container's quota of CPU time pays for, and fewer while other processes need the cores. The tokens do not depend on it.
   */
  threads?: number | "auto";
  /** Most tokens computed in one step. Default 512. */
  batchSize?: number;
  /** Most prompt tokens computed in a step in which other generations get a token. Default 128. */
  prefillBudget?: number;
  /** Most generations at the same time, 1 to 254; more wait their turn. Default: 8, or as many as memory allows. */
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
  /**
   * Keep what was computed, for prompts that begin alike. Default true. Without it sessions compute their whole text at each
   * call, also after `restore()`.
   */
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
  /**
   * Machines to put layers on beside this one, `"host:port"` each: they run `coldstart worker`. Nothing is encrypted and
   * nobody is asked who they are: see docs/workers.md. Layers are shared out over the workers' devices and this machine's
   * GPUs. Implies `isolation: "process"`.
   */
  workers?: readonly string[];
  /**
   * `"process"`: the model is in a process of its own. When that crashes, the generations under way and all later calls
   * fail with `ENGINE_CRASHED`, and the application lives. Default `"none"`.
   */
  isolation?: "none" | "process";
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
      /** Its layers on GPUs. Default `"max"`: all, where the model has some. */
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
  "contextLength", "gpuLayers", "devices", "splitMode", "tensorSplit", "mainDevice", "tensorOverrides", "cpuMoeLayers",
  "kvOffload", "memory", "strict", "onOutOfMemory", "loadMode", "prefetch", "mlock", "checkTensors", "threads", "batchSize", "prefillBudget", "parallel", "maxQueue",
  "kvCache", "prefixCache", "deterministic", "speculative", "flashAttention", "workers", "isolation", "seed", "onProgress", "signal",
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
// llama.cpp's GGML_RPC_MAX_SERVERS
const MAX_WORKERS = 16;
/** @internal */
export const DEFAULT_PARALLEL = 8;
/** @internal Most tokens of a context that nobody asked for. */
export const DEFAULT_CONTEXT = 8192;
const MIB = 2 ** 20;

/** Where a model should go; see lib/place.ts. */
export interface PlacementWishes {
  /** `undefined`: not said, which is "auto" and no reason to complain without a GPU. */
  gpuLayers: number | "max" | "auto" | undefined;
  /** `undefined`: not said. */
  contextLength: number | "auto" | undefined;
  parallel: number | undefined;
  devices: string[] | undefined;
  mainDevice: string | undefined;
  tensorSplit: number[] | undefined;
  reserves: Reserves;
  limits: Record<string, number>;
  strict: boolean;
  retry: boolean;
}

/** The engine's options, and what stays in JavaScript. */
export interface CheckedLoad {
  /** `gpuLayers`, `contextLength`, `parallel`, `devices`, `mainDevice` and `tensorSplit` are still to be decided. */
  native: NativeEngineOptions;
  wishes: PlacementWishes;
  /** What is not as one might expect, and why. */
  notes: string[];
  seed: number | undefined;
  onProgress: LoadOptions["onProgress"];
  signal: AbortSignal | undefined;
  /** Endpoints. */
  workers: string[];
  /** Whether the engine is to be in a process of its own. */
  isIsolated: boolean;
}

/** Throws `INVALID_OPTION`. */
export function checkLoad(path: unknown, options: LoadOptions): CheckedLoad {
  const read = new OptionReader(options, NAMES);
  const notes: string[] = [];
  const workers = checkWorkers(read);
  const isolation = read.choice("isolation", ["none", "process"] as const, workers.length > 0 ? "process" : "none");
  if (workers.length > 0 && isolation === "none") {
    throw invalidOption("isolation", isolation, '"process" with workers: llama.cpp ends the process when one is lost');
  }
  return {
    workers,
    isIsolated: isolation === "process",
    native: checkEngineOptions(toPath(path), read),
    wishes: checkWishes(read),
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

/** @internal Of integers that llama.cpp takes: all layers. */
export const ALL_LAYERS = -1;

function checkWishes(read: OptionReader): PlacementWishes {
  const memory = read.nested("memory", ["headroom", "leaveFree", "limits"]);
  const devices = read.raw("devices") === undefined ? undefined : read.strings("devices", []);
  return {
    gpuLayers: checkGpuLayers(read),
    contextLength: checkContextLength(read),
    parallel: read.integer("parallel", 1, MAX_PARALLEL, undefined),
    devices,
    mainDevice: read.string("mainDevice", "") || undefined,
    tensorSplit: checkTensorSplit(read.raw("tensorSplit")),
    reserves: {
      headroom: memory.number("headroom", { min: 0, max: 10 }, 0.15),
      leaveFree: memory.number("leaveFree", { min: 0, max: 0.95 }, 0.2),
    },
    limits: checkLimits(memory.raw("limits")),
    strict: read.boolean("strict", false),
    retry: read.choice("onOutOfMemory", ["throw", "retry"] as const, "throw") === "retry",
  };
}

function checkContextLength(read: OptionReader): number | "auto" | undefined {
  return read.raw("contextLength") === "auto" ? "auto" : read.integer("contextLength", 1, INT32_MAX, undefined);
}

/** llama.cpp's llama_max_devices(). */
const MAX_DEVICES = 16;

function checkTensorSplit(value: unknown): number[] | undefined {
  if (value === undefined) return undefined;
  const shares: unknown[] = Array.isArray(value) ? value : [];
  const valid = shares.every((share) => typeof share === "number" && Number.isFinite(share) && share >= 0);
  if (!valid || shares.length > MAX_DEVICES || !shares.some((share) => (share as number) > 0)) {
    throw invalidOption("tensorSplit", value, `an array of at most ${MAX_DEVICES} shares, not all of them 0`);
  }
  return shares as number[];
}

function checkLimits(value: unknown): Record<string, number> {
  if (value === undefined) return {};
  if (typeof value !== "object" || value === null) throw invalidOption("memory.limits", value, "an object");
  for (const [device, bytes] of Object.entries(value)) {
    if (typeof bytes !== "number" || !(bytes >= 0)) throw invalidOption(`memory.limits.${device}`, bytes, "bytes");
  }
  return { ...value };
}

function checkOverrides(read: OptionReader): [pattern: string, device: string][] {
  const value = read.raw("tensorOverrides") ?? [];
  if (!Array.isArray(value)) throw invalidOption("tensorOverrides", value, "an array of { pattern, device }");
  const overrides = value.map((entry: unknown, i): [string, string] => {
    const one = new OptionReader(entry, ["pattern", "device"], `tensorOverrides[${i}].`);
    const pattern = one.raw("pattern");
    const device = one.string("device", "");
    if (device === "") throw invalidOption(`tensorOverrides[${i}].device`, device, "the name of a device");
    return [pattern instanceof RegExp ? pattern.source : one.string("pattern", ""), device];
  });
  const layers = read.raw("cpuMoeLayers") === "all" ? "all" : read.integer("cpuMoeLayers", 0, 512, 0);
  // llama.cpp's LLM_FFN_EXPS_REGEX
  const experts = String.raw`\.ffn_(up|down|gate|gate_up)_(ch|)exps`;
  if (layers === "all") overrides.push([experts, "CPU"]);
  else if (layers > 0) {
    const numbers = Array.from({ length: layers }, (_, i) => i).join("|");
    overrides.push([String.raw`blk\.(${numbers})${experts}`, "CPU"]);
  }
  return overrides;
}

/** The endpoints of workers, each once. */
function checkWorkers(read: OptionReader): string[] {
  const wanted = read.raw("workers") ?? [];
  if (!Array.isArray(wanted) || wanted.length > MAX_WORKERS) {
    throw invalidOption("workers", wanted, `an array of at most ${MAX_WORKERS} "host:port"`);
  }
  const endpoints = wanted.map((endpoint: unknown, i) => {
    const { host, port } = parseEndpoint(`workers[${i}]`, endpoint);
    return `${host}:${port}`;
  });
  const twice = endpoints.find((endpoint, i) => endpoints.indexOf(endpoint) !== i);
  if (twice !== undefined) throw invalidOption("workers", twice, "named once: a worker serves one client at a time");
  return endpoints;
}

function checkEngineOptions(path: string, read: OptionReader): NativeEngineOptions {
  const kvCache = read.nested("kvCache", ["keyType", "valueType", "layout", "capacity", "spill"]);
  const spill = kvCache.nested("spill", ["bytes", "directory"]);
  const deterministic = read.boolean("deterministic", false);
  const layout = kvCache.choice("layout", ["unified", "split"] as const, deterministic ? "split" : "unified");
  if (deterministic && layout === "unified") {
    throw invalidOption("kvCache.layout", layout, "split when deterministic is true");
  }
  const asked = checkContextLength(read);
  const contextLength = typeof asked === "number" ? asked : 0;
  const parallel = read.integer("parallel", 1, MAX_PARALLEL, DEFAULT_PARALLEL);
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
    gpuLayers: 0,
    devices: [],
    splitMode: read.choice("splitMode", ["layer", "tensor", "row", "none"] as const, "layer"),
    mainDevice: 0,
    tensorSplit: [],
    overrides: checkOverrides(read),
    kvOffload: read.boolean("kvOffload", true),
    ...checkLoading(read),
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
    ...checkSpeculative(read),
    keyType,
    valueType,
    flashAttention: FLASH_ATTENTION[`${flashAttention}`],
  };
}

function checkLoading(read: OptionReader): Pick<NativeEngineOptions, "loadMode" | "mlock" | "prefetchLimit"> {
  const loadMode = read.choice("loadMode", ["auto", "mmap", "copy", "direct"] as const, "auto");
  const mlock = read.boolean("mlock", false);
  const prefetch = read.boolean("prefetch", loadMode !== "direct");
  if (loadMode === "direct" && mlock) throw invalidOption("mlock", mlock, `false when loadMode is "direct"`);
  if (loadMode === "direct" && prefetch) throw invalidOption("prefetch", prefetch, `false when loadMode is "direct"`);
  // Of what is copied there are two for a while, in the page cache and in this process.
  const limit = process.availableMemory() / (loadMode === "mmap" ? 1 : 2);
  return { loadMode, mlock, prefetchLimit: prefetch ? Math.floor(limit) : 0 };
}

type NativeSpeculation = Pick<
  NativeEngineOptions,
  "speculation" | "draftTokens" | "match" | "minProbability" | "draftModel" | "draftGpuLayers"
>;

function checkSpeculative(read: OptionReader): NativeSpeculation {
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
      draftGpuLayers:
        draft.raw("gpuLayers") === "max" ? ALL_LAYERS : draft.integer("gpuLayers", 0, INT32_MAX, ALL_LAYERS),
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

function checkGpuLayers(read: OptionReader): number | "max" | "auto" | undefined {
  const wanted = read.raw("gpuLayers");
  return wanted === "max" || wanted === "auto" ? wanted : read.integer("gpuLayers", 0, INT32_MAX, undefined);
}

/**
 * Threads beyond the number of cores only spin: with hyperthreads, half of the logical processors. Threads beyond a container's
 * quota are stopped in the middle of a step, and all others wait for them.
 */
export function defaultThreads(): number {
  const processors = os.availableParallelism();
  const cores = hasHyperthreads() ? Math.floor(processors / 2) : processors;
  return Math.max(1, Math.min(cores, Math.floor(readContainer(thisMachine).cpuQuota ?? cores)));
}

function hasHyperthreads(): boolean {
  if (process.platform !== "linux") return false;
  try {
    return fs.readFileSync("/sys/devices/system/cpu/smt/active", "utf8").trim() === "1";
  } catch {
    return false; // Not all kernels and containers say; then every processor counts as a core.
  }
}
