// Checks the options of loadModel() and makes them into the engine's.

import fs from "node:fs";
import { resolve } from "node:path";
import type { KvCacheType, LoadOptions } from "./load-options.js";
import { defaultThreads } from "./machine/threads.js";
import type { NativeEngineOptions } from "./native.js";
import { invalidOption, OptionReader, toPath } from "./options.js";
import { checkQuantize, checkQuantizeCache } from "./quantization/recipe.js";
import { parseEndpoint } from "./workers/endpoint.js";

const NAMES = [
  "contextLength", "gpuLayers", "devices", "splitMode", "tensorSplit", "mainDevice", "tensorOverrides", "cpuMoeLayers",
  "kvOffload", "gpuSampling", "quantize", "quantizeCache", "adapters", "mmproj", "memory", "strict", "onOutOfMemory", "loadMode", "prefetch", "mlock", "checkTensors", "threads", "batchSize", "prefillBudget", "parallel", "maxQueue",
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

/** What is kept free. */
export interface Reserves {
  /** Share of the buffers for intermediate results that is kept free in addition. */
  headroom: number;
  /** Share of a GPU's memory that is left free. */
  leaveFree: number;
}

/** Where a model should go; see lib/placement/placer.ts. */
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
  /** Folder for what was quantized. */
  quantizeCache: string | undefined;
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
    quantizeCache: checkQuantizeCache(read),
    native: checkEngineOptions(toPath(path), read),
    wishes: checkWishes(read),
    notes,
    seed: read.integer("seed", 0, 2 ** 32 - 2, undefined),
    onProgress: read.callback("onProgress") as LoadOptions["onProgress"],
    signal: read.signal(),
  };
}

/** @internal Of integers that llama.cpp takes: all layers. */
export const ALL_LAYERS = -1;

function checkWishes(read: OptionReader): PlacementWishes {
  const memory = read.nested("memory", ["headroom", "leaveFree", "limits"]);
  const devices = read.raw("devices") === undefined ? undefined : read.strings("devices", []);
  const twice = devices?.find((name, i) => devices.indexOf(name) !== i);
  if (twice !== undefined) throw invalidOption("devices", twice, "named once");
  const gpuLayers = checkGpuLayers(read);
  if (devices?.length === 0 && (gpuLayers === "max" || Number(gpuLayers) > 0)) {
    throw invalidOption("gpuLayers", gpuLayers, '0 or "auto" when devices is empty');
  }
  return {
    gpuLayers,
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
    const device = one.string("device", "");
    if (device === "") throw invalidOption(`tensorOverrides[${i}].device`, device, "the name of a device");
    return [one.pattern("pattern"), device];
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
  const splitMode = read.choice("splitMode", ["layer", "tensor", "row", "none"] as const, "layer");
  const kvOffload = read.boolean("kvOffload", true);
  if (splitMode === "tensor" && flashAttention === false) {
    throw invalidOption("flashAttention", flashAttention, 'true or "auto" when splitMode is "tensor"');
  }
  // llama.cpp takes it, and computes other tokens.
  if (splitMode === "tensor" && !kvOffload) {
    throw invalidOption("kvOffload", kvOffload, 'true when splitMode is "tensor"');
  }
  const quantize = checkQuantize(read);
  const adaptThreads = (read.raw("threads") ?? "auto") === "auto";
  return {
    path,
    gpuLayers: 0,
    devices: [],
    splitMode,
    mainDevice: 0,
    tensorSplit: [],
    overrides: checkOverrides(read),
    kvOffload,
    gpuSampling: read.boolean("gpuSampling", false),
    ...checkLoading(read),
    ...(quantize && { quantize }),
    adapters: checkAdapters(read.raw("adapters")),
    projector: checkProjector(read),
    streamed: quantize !== undefined,
    checkTensors: read.boolean("checkTensors", false),
    contextLength,
    kvCells: kvCache.integer("capacity", Math.max(1, contextLength * pools), INT32_MAX, 0),
    kvUnified: layout === "unified",
    spillBytes: spill.integer("bytes", 0, Number.MAX_SAFE_INTEGER, 256 * MIB),
    spillDirectory: checkDirectory(spill.string("directory", "")),
    prefixCache: read.boolean("prefixCache", true),
    deterministic,
    scores: true,
    batchSize: read.integer("batchSize", 1, 65_536, 512),
    prefillBudget: read.integer("prefillBudget", 1, 65_536, 0),
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

/** Of `mmproj`: find it. */
export const AUTO_PROJECTOR = "auto";

function checkProjector(read: OptionReader): string {
  const mmproj = read.raw("mmproj");
  if (mmproj === undefined) return "";
  const { type } = (read.raw("speculative") ?? {}) as { type?: unknown };
  if (type === "draft" || type === "mtp")
    throw invalidOption("mmproj", mmproj, `left out with speculative "${type}", which guesses from text alone`);
  return mmproj === AUTO_PROJECTOR ? mmproj : resolve(toPath(mmproj, "mmproj"));
}

function checkAdapters(value: unknown): [path: string, scale: number][] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw invalidOption("adapters", value, "an array of paths, or of { path, scale }");
  return value.map((entry: unknown, i): [string, number] => {
    const option = `adapters[${i}]`;
    const isPath = typeof entry !== "object" || entry === null || entry instanceof URL;
    if (isPath) return [resolve(toPath(entry, option)), 1];
    const one = new OptionReader(entry, ["path", "scale"], `${option}.`);
    return [resolve(toPath(one.raw("path"), `${option}.path`)), one.number("scale", { min: -100, max: 100 }, 1)];
  });
}

function checkLoading(read: OptionReader): Pick<NativeEngineOptions, "loadMode" | "mlock" | "prefetchLimit"> {
  const loadMode = read.choice("loadMode", ["auto", "mmap", "copy", "direct"] as const, "auto");
  const mlock = read.boolean("mlock", false);
  const prefetch = read.boolean("prefetch", loadMode !== "direct");
  if (read.raw("quantize") !== undefined && loadMode !== "auto" && loadMode !== "copy") {
    throw invalidOption(
      "loadMode",
      loadMode,
      '"auto" or "copy" with quantize: no weights stay as they are in the file',
    );
  }
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
      draftModel: toPath(draft.raw("model"), "speculative.model"),
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
