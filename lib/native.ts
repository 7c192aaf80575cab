// The typed view of the addon (native/addon/addon.cc) and the only place that loads it.

import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { ColdstartError } from "./errors.js";
import type { LoadMode } from "./load-options.js";

/** A header as native/addon/gguf_convert.cc makes it. */
export interface GgufHeader {
  version: number;
  metadata: Record<string, MetadataValue>;
  tensors: { name: string; type: string; shape: number[]; offset: number; bytes: number }[];
  alignment: number;
  dataOffset: number;
  fileSize: number;
  parameters: number;
  weightBytes: number;
}

export type InspectedGguf = GgufHeader & { quantization?: string };

/** A header, and where its parts lie: bytes from the start of the file (native/addon/inspect.cc). */
export interface GgufLayout extends GgufHeader {
  /** Of each metadata entry, in order. */
  entries: ({ key: string; type: MetadataType | "array"; keyEnd: number } & Span)[];
  /** Of each tensor, in order. What follows the type is its offset, eight bytes. */
  descriptions: ({
    /** ggml's number. */
    type: number;
    blockBytes: number;
    blockWeights: number;
  } & Span)[];
}

export interface Span {
  begin: number;
  end: number;
}

export type MetadataScalar = number | bigint | boolean | string;

/** The types of metadata values, and of the elements of arrays. */
export type MetadataType =
  | "uint8"
  | "int8"
  | "uint16"
  | "int16"
  | "uint32"
  | "int32"
  | "uint64"
  | "int64"
  | "float32"
  | "float64"
  | "boolean"
  | "string";

/** A metadata value: integers beyond 2^53 are bigints, arrays are cut after some elements. */
export type MetadataValue = MetadataScalar | MetadataArray;

export interface MetadataArray {
  /** `"string"`, `"int32"`, … */
  elementType: string;
  /** Elements in the file. */
  length: number;
  /** The first of them. */
  values: MetadataScalar[];
}

/** As safetensors names them (native/weights/checkpoint_rows.cc). */
export type WeightType = "F32" | "F16" | "BF16" | "F8_E4M3" | "F8_E5M2";

/** A tensor of safetensors. */
export interface NativePlace {
  /** Index in `files`. */
  file: number;
  /** Bytes from the file's start. */
  offset: number;
  /** As safetensors names it. */
  type: string;
}

/** A matrix of GPTQ or AWQ (native/weights/packed_matrix.h). */
export interface NativePackedMatrix {
  method: "gptq" | "awq";
  bits: number;
  outputs: number;
  inputs: number;
  groupSize: number;
  /** Of each input, where it is not its place. */
  groups?: Int32Array;
  symmetric: boolean;
  zerosLessOne: boolean;
  codes: NativePlace;
  zeros: NativePlace;
  scales: NativePlace;
}

/** A folder's model (native/weights/checkpoint.h). */
export interface NativeCheckpoint {
  /** Of the GGUF file that it would be. */
  header: Uint8Array;
  /** Paths. */
  files: string[];
  /** In the order of the header. */
  tensors: {
    /** Tensors of safetensors, of equal length, one after the other: numbers, with scales or without, or packed ones. */
    pieces: ({ name: string } & (
      | { place: NativePlace; scales?: { place: NativePlace; rows: number; columns: number } }
      | { packed: NativePackedMatrix }
    ))[];
    /** Without pieces: the tensor itself, F32. */
    values?: Float32Array;
    /** Rows of a head whose halves are interleaved; 0: none. */
    interleave: number;
    /** Each weight is multiplied with this, and then that is added. */
    multiply: number;
    add: number;
  }[];
}

/** What becomes of each tensor; types of ggml, or "" for the mixture's. */
export interface NativeRecipe {
  /** llama.cpp's name of the mixture. */
  type: string;
  /** A path, or "". */
  importanceMatrix: string;
  tensorTypes: [pattern: string, type: string][];
  outputTensorType: string;
  tokenEmbeddingType: string;
  leaveOutputTensor: boolean;
  pure: boolean;
  allowRequantize: boolean;
}

export interface NativeConversionPlan {
  /** Bytes of each. */
  files: number[];
  tensors: { name: string; from: string; to: string; parameters: number; sourceBytes: number; bytes: number }[];
}

/** What quantized. */
export interface NativeWritten {
  /** ggml's name. */
  device: string;
  /** What bounded a GPU, or "". */
  bound: string;
  /** With "auto": why it was not a GPU. */
  note: string;
}

export interface NativeConversion {
  plan(): Promise<NativeConversionPlan>;
  /** New files, one path for each of the plan's. What was begun is left behind when it fails. */
  write(
    paths: string[],
    threads: number,
    device: "auto" | "cpu" | "cuda",
    onProgress: (fraction: number) => void,
  ): Promise<NativeWritten>;
  /** The promise of `write` is rejected with `ABORTED` soon. */
  cancel(): void;
}

/** native/addon/options.cc reads these; all are required there. */
export interface NativeEngineOptions {
  path: string;
  /** The model in a folder. */
  checkpoint?: NativeCheckpoint;
  /** Quantize the weights while they are loaded. */
  quantize?: NativeRecipe;
  /** Adapters (GGUF) to load, and by how much they count where nothing else is said. Their numbers are 1, 2, … */
  adapters: [path: string, scale: number][];
  /** The file for images and recordings (mmproj); empty: none. */
  projector: string;
  /** The weights are converted on their way into memory; with either of the two. */
  streamed: boolean;
  /** -1: all. */
  gpuLayers: number;
  /** GPUs to use, in order. */
  devices: string[];
  splitMode: "none" | "layer" | "row" | "tensor";
  /** Index in devices. */
  mainDevice: number;
  /** Shares of devices; empty: by free memory. */
  tensorSplit: number[];
  overrides: [pattern: string, device: string][];
  kvOffload: boolean;
  gpuSampling: boolean;
  loadMode: LoadMode;
  mlock: boolean;
  /** Read ahead the files of models of up to so many bytes. */
  prefetchLimit: number;
  checkTensors: boolean;
  /** Tokens of one request; 0: the model's own. */
  contextLength: number;
  /** Tokens of the KV cache; 0: what fits contextLength. */
  kvCells: number;
  kvUnified: boolean;
  spillBytes: number;
  /** Empty: in main memory. */
  spillDirectory: string;
  prefixCache: boolean;
  deterministic: boolean;
  /** Texts can be scored: a draft model's are not. */
  scores: boolean;
  batchSize: number;
  /** 0: by where the layers are. */
  prefillBudget: number;
  parallel: number;
  maxQueue: number;
  threads: number;
  adaptThreads: boolean;
  speculation: "none" | "lookup" | "draft" | "mtp";
  draftTokens: number;
  match: number;
  minProbability: number;
  draftModel: string;
  draftGpuLayers: number;
  keyType: string;
  valueType: string;
  flashAttention: -1 | 0 | 1;
}

export interface NativeSampling {
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  typicalP: number;
  xtcProbability: number;
  xtcThreshold: number;
  dryMultiplier: number;
  dryBase: number;
  dryAllowedLength: number;
  dryLastTokens: number;
  dryBreakers: string[];
  mirostat: 0 | 1 | 2;
  mirostatTau: number;
  mirostatEta: number;
  repeatPenalty: number;
  frequencyPenalty: number;
  presencePenalty: number;
  penaltyLastTokens: number;
  logitBias: [token: number, bias: number][];
  grammar: string;
  seed: number;
  logprobs: number;
}

/** A file's bytes, or where it is. */
export type NativeMedia = { type: "image" | "audio" } & ({ data: Uint8Array } | { path: string });

export interface NativeRequest extends NativeSampling {
  id: number;
  /** What the prompt continues; it is no beginning of a text then. */
  history: Int32Array;
  prompt: string | Int32Array;
  /** With a prompt that is a string, without history: what stands where it has the engine's `mediaMarker`. */
  media: NativeMedia[];
  /** What follows the answer. */
  suffix?: string;
  parseSpecial: boolean;
  /** 0: only compute the prompt. */
  maxTokens?: number;
  overflow: "error" | "stop" | "shift" | "truncateMiddle";
  priority: number;
  /** By their numbers. */
  adapters: [id: number, scale: number][];
  /** With maxTokens 0: also save the state. */
  snapshot: boolean;
  /** With maxTokens 0 and tokens as prompt: tell how likely its tokens are, from the index `from` on, 1 at least. */
  score?: {
    from: number;
    /** Also tell how likely every token of the vocabulary was. */
    distributions: boolean;
    /** Distributions that another model told, to compare with. */
    base?: Uint8Array;
  };
  /** Tell the tokens of prompt and answer at the end. */
  reportTokens: boolean;
  stop: string[];
  /** Of an answer in a chat. */
  answer?: NativeAnswerShape;
  /** Cancelled before it starts: it ends at once, with nothing computed. */
  cancelled: boolean;
}

/** How an answer of a chat is generated. */
export interface NativeAnswerShape {
  /** What the prompt ends with and the answer goes on from. */
  beginning: string;
  /** Special tokens that are part of the answer's text. */
  preserved: string[];
  /** The grammar is about the beginning, too. */
  grammarFromBeginning: boolean;
  /** The grammar is in force from where one of the triggers matches, regular expressions. */
  grammarLazy: boolean;
  grammarTriggers: string[];
  /** Empty: the model does not think. */
  thinkingStart: string;
  thinkingEnds: string[];
  /** Most tokens in between. */
  thinkingBudget?: number;
  /** Put before the end when the budget ends it. */
  thinkingMessage: string;
}

/** How an answer is to be read. */
export interface NativeAnswerFormat {
  kind: number;
  parser: string;
  generationPrompt: string;
}

/** What a chat template makes of messages (native/chat/chat_template.h). */
export interface NativeChatPrompt {
  text: string;
  format: NativeAnswerFormat;
  grammar: string;
  grammarFromPrompt: boolean;
  grammarLazy: boolean;
  triggers: string[];
  preserved: string[];
  stop: string[];
  thinkingStart: string;
  thinkingEnds: string[];
}

/** `arguments` is JSON, or its beginning. */
export interface NativeToolCall {
  id: string;
  name: string;
  arguments: string;
}

export interface NativeAnswer {
  content: string;
  reasoning: string;
  toolCalls: NativeToolCall[];
}

export interface NativeChatTemplate {
  /** Of a request in JSON. Rejects with `CHAT_TEMPLATE_FAILED`. */
  render(request: string): Promise<NativeChatPrompt>;
}

export interface NativeAnswerParser {
  /** With `partial` more may come. Undefined when the text does not follow the format. */
  parse(text: string, partial: boolean): Promise<NativeAnswer | undefined>;
}

/** What a calibration reads (native/engine/calibration.h). */
export interface NativeCalibration {
  id: number;
  /** Whole chunks. */
  tokens: Int32Array;
  chunkLength: number;
  /** Also of the output matrix. */
  output: boolean;
}

/** Texts to embed, or documents to rank (native/engine/embedder.h). */
export interface NativeEmbedding {
  id: number;
  texts: string[];
  query?: string;
  /** Tokens of one text. */
  limit: number;
  truncate: "error" | "end" | "start";
  /** llama.cpp's number; -1: the model's own. */
  pooling: number;
  normalize: boolean;
  /** 0: all. */
  dimensions: number;
  /** By their numbers. */
  adapters: [id: number, scale: number][];
}

export interface NativeEmbeddings {
  dimensions: number;
  /** Vector after vector. */
  values: Float32Array;
  /** In vectors, of each text; and their number. */
  offsets: Float64Array;
  /** Of each text. */
  tokens: Uint32Array;
}

/** Sums of squares of what each column of a matrix was multiplied with, of several stacked matrices in turn. */
export interface NativeActivationSquares {
  name: string;
  sums: Float32Array;
  /** Rows summed up, of each matrix, or of all together. */
  counts: Float32Array;
}

export interface NativeLogprob {
  token: number;
  text: string;
  logprob: number;
  top: { token: number; text: string; logprob: number }[];
}

/** An adapter that was loaded. */
export interface NativeAdapter {
  kind: "lora" | "controlVector";
  /** Of its weights. */
  bytes: number;
}

export interface NativeLoaded {
  type: "loaded";
  header: GgufHeader;
  description: string;
  quantization: string;
  parameters: number;
  weightBytes: number;
  layers: number;
  embeddingLength: number;
  vocabularySize: number;
  trainedContextLength: number;
  contextLength: number;
  /** llama.cpp's number of it; 0: the file does not say. */
  pooling: number;
  /** Not of models that are for embeddings alone. */
  generates: boolean;
  kvCells: number;
  chatTemplate: string;
  bos: number;
  eos: number;
  gpuLayers: number;
  gpuSampling: boolean;
  loadMode: Exclude<LoadMode, "auto">;
  prefetch: boolean;
  notes: string[];
  /** Of the options. */
  adapters: NativeAdapter[];
  /** Stands in prompts for images and recordings; empty: there can be none. */
  mediaMarker: string;
  /** It reads images. */
  sees: boolean;
  /** It reads recordings. */
  hears: boolean;
  devices: NativeDeviceMemory[];
}

export interface NativeDeviceMemory {
  name: string;
  backend: string;
  description: string;
  memoryTotal: number;
  memoryFree: number;
  weights: number;
  kvCache: number;
  compute: number;
  /** The output layer not counted. */
  layers: number;
}

/** What an engine with some options would allocate. */
export interface NativeDemand {
  devices: NativeDeviceMemory[];
  /** The output layer not counted. */
  layers: number;
  trainedContextLength: number;
  contextLength: number;
  kvCells: number;
}

/** Of an engine that has done nothing yet. */
export const IDLE: Readonly<NativeStatus> = {
  running: 0,
  waiting: 0,
  kvUsed: 0,
  kvAtWork: 0,
  spilledBytes: 0,
  steps: 0,
  gpuSampled: 0,
  threads: 0,
};

export interface NativePlanner {
  measure(options: NativeEngineOptions): Promise<NativeDemand>;
}

export interface NativeChunk {
  type: "chunk";
  id: number;
  text: string;
  tokens: number[];
  logprobs?: NativeLogprob[];
}

export interface NativeSnapshot {
  type: "snapshot";
  id: number;
  state: Uint8Array;
}

/** One element for each token that is scored (native/engine/scorer.h). */
export interface NativeScored {
  type: "scored";
  id: number;
  logprobs: Float32Array;
  likeliest: Int32Array;
  /** Empty when not asked for. */
  distributions: Uint8Array;
  /** KL(base || this), nats; empty without a base. */
  divergences: Float32Array;
}

export interface NativeFinished {
  type: "finished";
  id: number;
  reason: "stop" | "stopString" | "length" | "context" | "aborted";
  stopString: string;
  tokens?: Int32Array;
  promptTokens: number;
  completionTokens: number;
  cachedTokens: number;
  droppedTokens: number;
  preemptions: number;
  guessedTokens: number;
  acceptedTokens: number;
  queueMs: number;
  prefillMs: number;
  firstTokenMs: number;
  decodeMs: number;
}

export type NativeEvent =
  | { type: "progress"; fraction: number }
  | NativeLoaded
  | { type: "loadFailed"; error: ColdstartError }
  | NativeChunk
  | NativeSnapshot
  | NativeScored
  | { type: "requestProgress"; id: number; fraction: number }
  /** Without `matrices` it was cancelled. */
  | { type: "calibrated"; id: number; matrices?: NativeActivationSquares[] }
  /** Without `embeddings` it was cancelled. */
  | { type: "embedded"; id: number; embeddings?: NativeEmbeddings }
  /** Its number is the request's. */
  | ({ type: "adapterLoaded"; id: number } & NativeAdapter)
  | { type: "adapterUnloaded"; id: number }
  | NativeFinished
  | { type: "failed"; id: number; error: ColdstartError }
  | { type: "trouble"; error: ColdstartError }
  | { type: "closed"; error: ColdstartError };

/** Whether nothing more comes for the request that the event is of. */
export function endsRequest(event: NativeEvent): event is Extract<NativeEvent, { id: number }> {
  return ["finished", "calibrated", "embedded", "adapterLoaded", "adapterUnloaded", "failed"].includes(event.type);
}

export interface NativeStatus {
  running: number;
  waiting: number;
  kvUsed: number;
  kvAtWork: number;
  spilledBytes: number;
  steps: number;
  gpuSampled: number;
  threads: number;
}

/** Counts of values in buckets: the bound of bucket i is 2^(lowest + i / perOctave), and the last one has none. */
export interface NativeHistogram {
  lowest: number;
  perOctave: number;
  counts: Float64Array;
  sum: number;
}

/** What an engine has done since it was loaded (native/engine/metrics.h). */
export interface NativeMetrics {
  timeToFirstToken: NativeHistogram;
  interToken: NativeHistogram;
  endToEnd: NativeHistogram;
  queue: NativeHistogram;
  prefill: NativeHistogram;
  decode: NativeHistogram;
  promptTokens: NativeHistogram;
  completionTokens: NativeHistogram;
  prefilledTokens: number;
  generatedTokens: number;
  finished: Record<NativeFinished["reason"], number>;
  failed: number;
  refused: number;
  numericErrors: number;
  prefixCacheQueries: number;
  prefixCacheHits: number;
  preemptions: number;
  guessedTokens: number;
  acceptedTokens: number;
  embeddedTexts: number;
  embeddedTokens: number;
  stepTokens: number;
  stepSeconds: number;
}

export interface NativeEngine {
  submit(request: NativeRequest): void;
  calibrate(request: NativeCalibration): void;
  embed(request: NativeEmbedding): void;
  cancel(id: number): void;
  loadAdapter(id: number, path: string): void;
  /** No request under way uses it. */
  unloadAdapter(id: number, adapter: number): void;
  restore(tokens: Int32Array, state: Uint8Array, adapters: [id: number, scale: number][]): void;
  status(): NativeStatus;
  metrics(): NativeMetrics | Promise<NativeMetrics>;
  stop(): void;
  tokenize(text: string, addSpecial: boolean, parseSpecial: boolean): Promise<number[]>;
  detokenize(tokens: Int32Array, renderSpecial: boolean): Promise<string>;
}

export interface NativeDevice {
  name: string;
  description: string;
  backend: string;
  pciId?: string;
  type: "cpu" | "gpu" | "igpu" | "accelerator";
  memoryTotal: number;
  memoryFree: number;
}

/** A GPU in NVML's units: MHz, milliwatts, bits. native/backends/nvml.h says what each is. */
export interface NativeNvidiaGpu {
  index: number;
  error?: string;
  name?: string;
  uuid?: string;
  pciId?: string;
  computeCapability?: string;
  memoryTotal?: number;
  memoryFree?: number;
  memoryUsed?: number;
  utilization?: number;
  memoryUtilization?: number;
  power?: number;
  powerLimit?: number;
  temperature?: number;
  clock?: number;
  maxClock?: number;
  memoryClock?: number;
  maxMemoryClock?: number;
  memoryBusWidth?: number;
  throttleReasons?: number;
  eccCorrected?: number;
  eccUncorrected?: number;
  pcieGeneration?: number;
  pcieWidth?: number;
  maxPcieGeneration?: number;
  maxPcieWidth?: number;
  persistenceMode?: boolean;
  migMode?: boolean;
  processes?: { pid: number; memory?: number }[];
}

export interface NativeNvml {
  library?: string;
  error?: string;
  driverVersion?: string;
  cudaVersion?: number;
  gpus: NativeNvidiaGpu[];
}

export interface NativeAddon {
  AnswerParser: new (format: NativeAnswerFormat) => NativeAnswerParser;
  /** Of Jinja; `bos` and `eos` are the texts of the vocabulary's tokens, or empty. */
  ChatTemplate: new (source: string, bos: string, eos: string) => NativeChatTemplate;
  /** Without a recipe all types stay as they are. */
  Conversion: new (
    source: string | NativeCheckpoint,
    recipe: NativeRecipe | undefined,
    keepParts: boolean,
  ) => NativeConversion;
  Engine: new (options: NativeEngineOptions, onEvents: (events: NativeEvent[]) => void) => NativeEngine;
  /** Of a path, or of the first bytes of each of a model's files. */
  Planner: new (source: string | Uint8Array[]) => NativePlanner;
  /** The mixtures that llama.cpp knows. */
  fileTypes(): string[];
  /** GBNF for JSON that fits a schema (JSON as well). Throws `INVALID_OPTION`. */
  grammarOfSchema(schema: string): string;
  /** GBNF for texts that the whole of a regular expression matches. Throws `INVALID_OPTION`. */
  grammarOfPattern(pattern: string): string;
  inspectGguf(path: string, arrayLimit: number): Promise<InspectedGguf>;
  /** Of a file's first bytes, which the caller leaves alone until then; a number is how many of them are needed to go on. */
  inspectGgufPrefix(bytes: Uint8Array, fileSize: number, arrayLimit: number): Promise<InspectedGguf | number>;
  /** With no elements of arrays. */
  ggufLayout(path: string): Promise<GgufLayout>;
  /**
   * The first weight that is NaN or infinite in whole blocks of ggml's `type`, which the caller leaves alone until then.
   */
  findInvalidWeight(bytes: Uint8Array, type: number): Promise<number | undefined>;
  backendFeatures(backend: string): Record<string, string>;
  /** The path of the CPU backend that was chosen for this processor; undefined where there is one in the addon. */
  cpuVariant(): string | undefined;
  listDevices(): NativeDevice[];
  loadBackend(path: string): Promise<{ name: string; devices: string[] }>;
  /** Bytes per second. */
  measureDiskBandwidth(path: string): Promise<number>;
  /** Bytes per second. */
  measureMemoryBandwidth(threads: number): Promise<number>;
  /** An empty path is the driver's own library. */
  queryNvml(path: string): Promise<NativeNvml>;
  /** Takes a file out of the page cache; how much of it is still there, 0 to 1, where the system says. */
  forgetFile(path: string): Promise<number | undefined>;
  /** The parts of a split model, or the file itself. */
  modelFiles(path: string): Promise<string[]>;
  /** Adds a worker's devices to this process, for good. Ends the process when it cannot: try the worker first. */
  addWorker(endpoint: string): Promise<void>;
  /** Serves devices until the process ends; `onEnd` says why that cannot be. An empty `cacheDirectory` means none. */
  serveWorker(
    endpoint: string,
    cacheDirectory: string,
    threads: number,
    devices: string[],
    onEnd: (error: ColdstartError) => void,
  ): void;
  /** Of llama.cpp's RPC protocol: `"7.0.0"`. */
  rpcVersion(): string;
  setErrorClass(errorClass: typeof ColdstartError): void;
  shutdownEngines(): void;
  versions(): { llamaCpp: string; ggml: string; systemInfo: string; buildType: string; compiler: string };
}

const require = createRequire(import.meta.url);
const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
let loaded: NativeAddon | undefined;

/** The addon, loaded at the first call. Throws `NATIVE_ADDON_MISSING`. */
export function native(): NativeAddon {
  loaded ??= load();
  return loaded;
}

/** Where the addon is; its libraries lie beside it. */
export function addonPath(): string {
  // Another build of the addon, with sanitizers or for debugging, in the place of the installed one.
  const other = process.env["COLDSTART_ADDON"];
  if (other !== undefined) return path.resolve(other);
  const nodeGypBuild = require("node-gyp-build") as { resolve(directory: string): string };
  return nodeGypBuild.resolve(root);
}

function load(): NativeAddon {
  try {
    const addon = require(addonPath()) as NativeAddon;
    addon.setErrorClass(ColdstartError);
    // Before the process lets go of what engines' threads still use.
    process.on("exit", () => addon.shutdownEngines());
    return addon;
  } catch (cause) {
    const machine = `${process.platform}-${process.arch}, Node.js ${process.version}`;
    const reason = cause instanceof Error ? cause.message.split("\n")[0] : String(cause);
    throw new ColdstartError(
      "NATIVE_ADDON_MISSING",
      `coldstart's native addon could not be loaded on ${machine}: ${reason}.`,
      {
        remedy:
          `1. Build it: cd ${root} && npm run build:native. ` +
          `2. If the package was installed with --ignore-scripts, install it again without. ` +
          `3. In a bundler or Electron's asar, leave coldstart outside of the bundle (external, asarUnpack).`,
        details: { platform: process.platform, arch: process.arch, node: process.version },
        cause,
      },
    );
  }
}
