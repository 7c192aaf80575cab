import { writeAtomically } from "../atomic-file.js";
import { checkApart, partPaths } from "../gguf/output.js";
import { readWatch, WATCH_NAMES, type Watch, type WatchOptions } from "../gguf/watch.js";
import { defaultThreads } from "../machine/threads.js";
import { native, type NativeConversion, type NativeConversionPlan, type NativeRecipe } from "../native.js";
import { OptionReader, toPath } from "../options.js";
import { checkRecipe, RECIPE_NAMES, type QuantizationRecipe } from "./recipe.js";

export interface QuantizeOptions extends QuantizationRecipe, WatchOptions {
  /** Write as many files as the source has, instead of one. Default false. */
  keepSplit?: boolean;
  /** Only say what would be written. Default false. */
  dryRun?: boolean;
  /** CPU threads. Default: the physical cores, within a container's quota. */
  threads?: number;
}

export interface QuantizeResult {
  /** What was written, or would be. */
  files: { path: string; bytes: number }[];
  parameters: number;
  /** Of the weights, before and after. */
  sourceBytes: number;
  bytes: number;
  bitsPerWeight: number;
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
 * @param input a GGUF file with F32, F16, BF16 or Q8_0; of a split model the first file
 * @param output the file to write; with `keepSplit` the beginning of the names, which `-00001-of-00003.gguf` follows
 *
 * Rejects with `MODEL_NOT_FOUND`, `INVALID_GGUF` (also when a weight is NaN or infinite), `UNSUPPORTED_MODEL`,
 * `INVALID_OPTION`, `NUMERIC_ERROR` (weights out of the type's range), `LOAD_FAILED` (the input cannot be read),
 * `WRITE_FAILED`, `ABORTED`, `NATIVE_ADDON_MISSING`.
 */
export async function quantizeModel(
  input: string | URL,
  output: string | URL,
  options: QuantizeOptions,
): Promise<QuantizeResult> {
  const names = [...RECIPE_NAMES, "keepSplit", "dryRun", "threads", ...WATCH_NAMES] as const;
  const read = new OptionReader(options, names satisfies readonly (keyof QuantizeOptions)[]);
  const recipe = checkRecipe(read);
  const [from, to] = [toPath(input, "input"), toPath(output, "output")];
  const keepSplit = read.boolean("keepSplit", false);
  const dryRun = read.boolean("dryRun", false);
  const threads = read.integer("threads", 1, 512, undefined) ?? defaultThreads();
  const watch = readWatch(read, "Quantizing");
  watch.checkAborted();
  return quantize(from, to, recipe, { keepSplit, dryRun, threads, watch });
}

/** @internal With options that have been checked. */
export async function quantize(
  input: string,
  output: string,
  recipe: NativeRecipe,
  {
    keepSplit = false,
    dryRun = false,
    threads,
    watch,
  }: { keepSplit?: boolean; dryRun?: boolean; threads: number; watch: Watch },
): Promise<QuantizeResult> {
  const conversion = new (native().Conversion)(input, recipe, keepSplit);
  const plan = await conversion.plan();
  const count = plan.files.length;
  const paths = keepSplit && count > 1 ? partPaths(output, count) : [output];
  const result = summary(plan, paths);
  if (dryRun) return result;
  await checkApart(await native().modelFiles(input), paths);
  await writeAtomically(paths, (partial) => write(conversion, partial, threads, watch));
  return result;
}

async function write(
  conversion: NativeConversion,
  paths: string[],
  threads: number,
  { onProgress, signal, checkAborted }: Watch,
): Promise<void> {
  let thrown: { error: unknown } | undefined;
  const report = (fraction: number) => {
    try {
      onProgress?.(fraction);
    } catch (error) {
      thrown ??= { error };
      conversion.cancel();
    }
  };
  const abort = () => conversion.cancel();
  signal?.addEventListener("abort", abort, { once: true });
  try {
    checkAborted();
    await conversion.write(paths, threads, report);
    report(1);
    if (thrown) throw thrown.error;
  } catch (error) {
    if (thrown) throw thrown.error;
    checkAborted();
    throw error;
  } finally {
    signal?.removeEventListener("abort", abort);
  }
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
    tensors,
  };
}
