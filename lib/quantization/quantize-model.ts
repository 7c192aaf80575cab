import { expectsNvidiaGpu, listBackends, type Backend } from "../backends.js";
import { writeConversion } from "../conversion.js";
import { checkApart, partPaths } from "../gguf/output.js";
import { openSource, toConvert, type ModelSource } from "../model-source.js";
import { readWatch, WATCH_NAMES, type Watch, type WatchOptions } from "../gguf/watch.js";
import { defaultThreads } from "../machine/threads.js";
import { native, type NativeConversionPlan, type NativeRecipe, type NativeWritten } from "../native.js";
import { OptionReader, toPath } from "../options.js";
import { checkRecipe, RECIPE_NAMES, type QuantizationRecipe } from "./recipe.js";

export interface QuantizeOptions extends QuantizationRecipe, WatchOptions {
  /** Write as many files as the source has, instead of one. Default false. */
  keepSplit?: boolean;
  /** Only say what would be written. Default false. */
  dryRun?: boolean;
  /** CPU threads. Default: the physical cores, within a container's quota. */
  threads?: number;
  /**
   * What computes. `"cuda"`: the first NVIDIA GPU, which needs coldstart's own CUDA backend, for tensors of F32, F16 or BF16
   * that become `Q8_0`, `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1`, `IQ4_NL`, `Q4_K`, `Q5_K` or `Q6_K` without an importance matrix; the CPU
   * for others. The bytes are the same. Default `"auto"`: a GPU if there is one that can.
   */
  device?: QuantizeDevice;
}

export type QuantizeDevice = "auto" | "cpu" | "cuda";

export interface QuantizeResult {
  /** What was written, or would be. */
  files: { path: string; bytes: number }[];
  parameters: number;
  /** Of the weights, before and after. */
  sourceBytes: number;
  bytes: number;
  bitsPerWeight: number;
  /** What quantized: `"CPU"`, or the name of a GPU, `"CUDA0"`, which did what it can. Undefined with `dryRun`. */
  device: string | undefined;
  /** With `device: "auto"` and a GPU of NVIDIA's: why it was not a GPU. What bounded a GPU. */
  notes: string[];
  /** In the order they are in the files. */
  tensors: { name: string; from: string; to: string; parameters: number; sourceBytes: number; bytes: number }[];
}

/**
 * Makes a GGUF file with fewer bits for each weight. The tensors are bit for bit those that `llama-quantize` of the same
 * llama.cpp writes. The output replaces files of the same names, at once, when it is complete.
 *
 * Of the source every row is read once. Beyond that memory is needed for less than a megabyte a thread, and for the
 * importance matrix.
 *
 * @param input a GGUF file with F32, F16, BF16 or Q8_0, of a split model the first; or a folder in Hugging Face's layout
 * @param output the file to write; with `keepSplit` the beginning of the names, which `-00001-of-00003.gguf` follows
 *
 * Rejects with `MODEL_NOT_FOUND`, `INVALID_GGUF` (also when a weight is NaN or infinite), `INVALID_CHECKPOINT` (likewise, of a
 * folder), `UNSUPPORTED_MODEL`, `INVALID_OPTION`, `NUMERIC_ERROR` (weights out of the type's range), `LOAD_FAILED` (the input cannot be read),
 * `WRITE_FAILED`, `BACKEND_UNAVAILABLE` (with `device: "cuda"` there is no such GPU, or it failed), `ABORTED`,
 * `NATIVE_ADDON_MISSING`.
 */
export async function quantizeModel(
  input: string | URL,
  output: string | URL,
  options: QuantizeOptions,
): Promise<QuantizeResult> {
  const names = [...RECIPE_NAMES, "keepSplit", "dryRun", "threads", "device", ...WATCH_NAMES] as const;
  const read = new OptionReader(options, names satisfies readonly (keyof QuantizeOptions)[]);
  const recipe = checkRecipe(read);
  const [from, to] = [toPath(input, "input"), toPath(output, "output")];
  const keepSplit = read.boolean("keepSplit", false);
  const dryRun = read.boolean("dryRun", false);
  const threads = read.integer("threads", 1, 512, undefined) ?? defaultThreads();
  const device = read.choice("device", ["auto", "cpu", "cuda"], "auto");
  const watch = readWatch(read, "Quantizing");
  watch.checkAborted();
  return quantize(await openSource(from), to, recipe, { keepSplit, dryRun, threads, device, watch });
}

/** @internal With options that have been checked. */
export async function quantize(
  input: ModelSource,
  output: string,
  recipe: NativeRecipe,
  {
    keepSplit = false,
    dryRun = false,
    threads,
    device = "auto",
    watch,
  }: { keepSplit?: boolean; dryRun?: boolean; threads: number; device?: QuantizeDevice; watch: Watch },
): Promise<QuantizeResult> {
  const conversion = new (native().Conversion)(toConvert(input), recipe, keepSplit);
  const plan = await conversion.plan();
  const count = plan.files.length;
  const paths = keepSplit && count > 1 ? partPaths(output, count) : [output];
  const result = summary(plan, paths);
  if (dryRun) return result;
  await checkApart(input.checkpoint?.files ?? (await native().modelFiles(input.path)), paths);
  const backends = device === "cpu" ? [] : await listBackends();
  const written = await writeConversion(conversion, paths, { threads, device, watch });
  return { ...result, device: written.device, notes: notesOf(written, backends) };
}

/** That it was the CPU is no surprise where there is no GPU. */
function notesOf({ device, bound, note }: NativeWritten, backends: Backend[]): string[] {
  if (bound !== "") return [`${device} was bound by ${bound}.`];
  return note !== "" && expectsNvidiaGpu(backends) ? [`Quantized on the CPU: ${note}.`] : [];
}

function summary({ files, tensors }: NativeConversionPlan, paths: string[]): QuantizeResult {
  const sum = (key: "parameters" | "sourceBytes" | "bytes") => tensors.reduce((total, one) => total + one[key], 0);
  const [parameters, sourceBytes, bytes] = [sum("parameters"), sum("sourceBytes"), sum("bytes")];
  return {
    files: files.map((size, i) => ({ path: paths[i] ?? "", bytes: size })),
    parameters,
    sourceBytes,
    bytes,
    bitsPerWeight: (8 * bytes) / Math.max(1, parameters),
    device: undefined,
    notes: [],
    tensors,
  };
}
