import { writeConversion } from "../conversion.js";
import { bytesOf, type OutputType, type PlainType } from "../gguf/encode.js";
import { readWatch, WATCH_NAMES, type WatchOptions } from "../gguf/watch.js";
import { defaultThreads } from "../machine/threads.js";
import { native } from "../native.js";
import { OptionReader, toPath } from "../options.js";
import { readFolder } from "./read-folder.js";

export interface ConvertOptions extends WatchOptions {
  /**
   * What matrices are written as; norms, biases and routers are always F32. `"auto"` is what they are in the checkpoint, F16
   * for floats of 8 bits; of GPTQ and AWQ `Q4_0`, `Q4_1` or `Q8_0` where these hold the numbers as they are, and else F16.
   * Default `"auto"`.
   */
  type?: "auto" | PlainType;
  /** CPU threads. Default: the physical cores, within a container's quota. */
  threads?: number;
}

/** What was written. */
export interface ConvertResult {
  /** GGUF's name: `"llama"`, `"qwen3"`, … */
  architecture: string;
  tensors: number;
  /** Of the weights. */
  bytes: number;
  /** Of most weights. */
  type: OutputType;
  /** What became of weights that are quantized in the folder: which keep their numbers, and which are rounded again. */
  notes: string[];
}

/**
 * Makes a GGUF file of a model in Hugging Face's layout: a folder with config.json, safetensors files and a tokenizer.
 * `loadModel()` and `quantizeModel()` also take the folder itself.
 *
 * Everything is checked before the first weight is written, and what is not known is an error that names it. The file
 * replaces one of the same name, at once, when it is complete. Weights go through buffers of less than a megabyte a thread.
 *
 * Rejects with `MODEL_NOT_FOUND`, `INVALID_CHECKPOINT`, `UNSUPPORTED_MODEL`, `INVALID_OPTION`, `LOAD_FAILED` when a file cannot
 * be read, `WRITE_FAILED`, `ABORTED`, `NATIVE_ADDON_MISSING`.
 */
export async function convertModel(
  folder: string | URL,
  output: string | URL,
  options: ConvertOptions = {},
): Promise<ConvertResult> {
  const read = new OptionReader(options, ["type", "threads", ...WATCH_NAMES]);
  const type = read.choice("type", ["auto", "F32", "F16", "BF16"] as const, "auto");
  const threads = read.integer("threads", 1, 512, undefined) ?? defaultThreads();
  const watch = readWatch(read, "Converting");
  const [from, to] = [
    toPath(folder, "folder", "a path, or a file: URL"),
    toPath(output, "output", "a path, or a file: URL"),
  ];
  watch.checkAborted();
  const { architecture, checkpoint, tensors, type: main, notes } = await readFolder(from, type);
  const conversion = new (native().Conversion)(checkpoint, undefined, false);
  await writeConversion(conversion, [to], { threads, device: "cpu", watch });
  const bytes = tensors.reduce((sum, tensor) => sum + bytesOf(tensor), 0);
  return { architecture, tensors: tensors.length, bytes, type: main, notes: [...notes.exact, ...notes.rounded] };
}
