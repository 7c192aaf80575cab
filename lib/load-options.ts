// The options of loadModel().

import type { QuantizationRecipe } from "./quantization/recipe.js";
import type { QuantizationType } from "./quantization/types.js";

/** Types of a KV cache's keys and values: fewer bits, less memory, some loss. */
export type KvCacheType = "f32" | "f16" | "bf16" | "q8_0" | "q4_0" | "q4_1" | "iq4_nl" | "q5_0" | "q5_1";

/** How weights get from a model's files to where they are used. */
export type LoadMode = "auto" | "mmap" | "copy" | "direct";

/** An adapter, and how much of it. */
export interface AdapterOptions {
  path: string | URL;
  /** -100 to 100: 0 is without it, 1 (default) as it was trained. */
  scale?: number;
}

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
   *   a long prompt where the backend can (pipeline parallelism of llama.cpp, not measured yet).
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
  /**
   * Let the GPU select the most likely tokens, where the output layer is on one, and copy these instead of the whole
   * vocabulary for each token. The tokens are the same. See docs/throughput.md for when it pays. Default false.
   */
  gpuSampling?: boolean;
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
  /**
   * Quantize the weights while they are loaded, from a file with F32, F16, BF16 or Q8_0: a type (`"Q4_K_M"`), or a whole
   * recipe. The model is then the one that loads from the file that `quantizeModel()` would write. docs/quantization.md
   * compares the types. Default: the weights stay as they are.
   */
  quantize?: QuantizationType | QuantizationRecipe;
  /**
   * Keep what `quantize` made as a file, in this folder or (`true`) in the user's cache folder, and load that the next time:
   * for the same file, recipe and llama.cpp. When it cannot be written the model is loaded without, with a note. Default
   * false.
   */
  quantizeCache?: boolean | string;
  /**
   * Adapters (GGUF) to load and to use where nothing else is asked for: LoRA adapters, which `convertAdapter()` makes of PEFT's folders,
   * and control vectors; each a path or with the scale by which it counts. What several add is added up. Default: none.
   */
  adapters?: (string | URL | AdapterOptions)[];
  /**
   * The projector (GGUF, usually named mmproj-….gguf) with which the model reads images or recordings. `"auto"`: the one that lies beside the
   * model, or is in its repository, if there is one. Default: none.
   */
  mmproj?: string | URL;
  /** Look for NaN and infinite weights while loading. Reads the whole file. With `quantize` always. Default false. */
  checkTensors?: boolean;
  /**
   * CPU threads to compute with. Default `"auto"`: as many as there are cores, counting two hyperthreads as one, no more than a
   * container's quota of CPU time pays for, and fewer while other processes need the cores. The tokens do not depend on it.
   */
  threads?: number | "auto";
  /** Most tokens computed in one step. Default 512. */
  batchSize?: number;
  /**
   * Most prompt tokens computed in a step in which other generations get a token. Default 128; with all layers on GPUs `batchSize`.
   */
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
