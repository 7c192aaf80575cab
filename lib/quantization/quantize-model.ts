import { statSync } from "node:fs";
import { resolve } from "node:path";
import { writeAtomically } from "../atomic-file.js";
import { ColdstartError } from "../errors.js";
import { defaultThreads } from "../machine/threads.js";
import { native, type NativeConversion, type NativeConversionPlan, type NativeRecipe } from "../native.js";
import { invalidOption, OptionReader, toPath } from "../options.js";
import { checkRecipe, RECIPE_NAMES, type QuantizationRecipe } from "./recipe.js";

export interface QuantizeOptions extends QuantizationRecipe {
  /** Write as many files as the source has, instead of one. Default false. */
  keepSplit?: boolean;
  /** Only say what would be written. Default false. */
  dryRun?: boolean;
  /** CPU threads. Default: the physical cores, within a container's quota. */
  threads?: number;
  /** Called with 0..1. If it throws, quantizing ends with that error. */
  onProgress?: (fraction: number) => void;
  /** Ends quantizing; nothing is left of the output. */
  signal?: AbortSignal;
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
  tensors: { name: string; from: string; to: string; parameters: number; bytes: number }[];
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
  const read = new OptionReader(options, [
    ...RECIPE_NAMES,
    "keepSplit",
    "dryRun",
    "threads",
    "onProgress",
    "signal",
  ] satisfies readonly (keyof QuantizeOptions)[]);
  const recipe = checkRecipe(read);
  const [from, to] = [toPath(input, "input"), toPath(output, "output")];
  const keepSplit = read.boolean("keepSplit", false);
  const dryRun = read.boolean("dryRun", false);
  const threads = read.integer("threads", 1, 512, undefined) ?? defaultThreads();
  const onProgress = read.callback("onProgress") as QuantizeOptions["onProgress"];
  const signal = read.signal();
  if (signal?.aborted) throw aborted(signal);

  return quantize(from, to, recipe, { keepSplit, dryRun, threads, onProgress, signal });
}

interface Checked extends Watch {
  keepSplit?: boolean;
  dryRun?: boolean;
  threads: number;
}

interface Watch {
  onProgress: QuantizeOptions["onProgress"] | undefined;
  signal: AbortSignal | undefined;
}

/** @internal With options that have been checked. */
export async function quantize(
  input: string,
  output: string,
  recipe: NativeRecipe,
  { keepSplit = false, dryRun = false, threads, ...watch }: Checked,
): Promise<QuantizeResult> {
  const conversion = new (native().Conversion)(input, recipe, keepSplit);
  const plan = await conversion.plan();
  const paths = outputPaths(output, plan.files.length, keepSplit);
  const result = summary(plan, paths);
  if (dryRun) return result;
  checkApart(input, paths);
  await writeAtomically(paths, (partial) => write(conversion, partial, threads, watch));
  return result;
}

async function write(
  conversion: NativeConversion,
  paths: string[],
  threads: number,
  { onProgress, signal }: Watch,
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
    if (signal?.aborted) throw aborted(signal);
    await conversion.write(paths, threads, report);
    report(1);
    if (thrown) throw thrown.error;
  } catch (error) {
    if (thrown) throw thrown.error;
    throw signal?.aborted ? aborted(signal) : error;
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

/** As llama.cpp names the parts of a model. */
function outputPaths(output: string, count: number, keepSplit: boolean): string[] {
  if (!keepSplit || count === 1) return [output];
  const number = (i: number) => String(i).padStart(5, "0");
  return Array.from({ length: count }, (_, i) => `${output}-${number(i + 1)}-of-${number(count)}.gguf`);
}

/** The output must not replace what is read from. */
function checkApart(input: string, outputs: string[]): void {
  const source = statSync(input, { throwIfNoEntry: false });
  for (const output of outputs) {
    const found = statSync(output, { throwIfNoEntry: false });
    const isSame = found ? found.ino === source?.ino && found.dev === source.dev : resolve(output) === resolve(input);
    if (isSame) throw invalidOption("output", output, "another file than the input");
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
    tensors: tensors.map((one) => ({
      name: one.name,
      from: one.from,
      to: one.to,
      parameters: one.parameters,
      bytes: one.bytes,
    })),
  };
}

function aborted(signal: AbortSignal): ColdstartError {
  return new ColdstartError("ABORTED", "Quantizing was aborted.", {
    remedy: "Nothing was kept; quantize again when needed.",
    cause: signal.reason,
  });
}
