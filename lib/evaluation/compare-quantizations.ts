import { readWatch, WATCH_NAMES, type Watch, type WatchOptions } from "../gguf/watch.js";
import { loadModel } from "../load-model.js";
import type { LoadOptions } from "../load-options.js";
import { Model } from "../model.js";
import { invalidOption, OptionReader, toPath } from "../options.js";
import { quantizeModel, type QuantizeOptions } from "../quantization/quantize-model.js";
import type { QuantizationType } from "../quantization/types.js";
import { evaluate } from "./evaluate.js";
import type { PerplexityResult } from "./perplexity.js";
import type { Estimate } from "./statistics.js";

export interface CompareQuantizationsOptions extends WatchOptions {
  /** To what the model is quantized, in turn. */
  types: readonly QuantizationType[];
  /** The text it is measured on; as that of the task `"perplexity"`. */
  text: string;
  /** Tokens of a chunk. Default: 512, or the context length where that is less. */
  chunkLength?: number;
  /** For those types that it helps. */
  importanceMatrix?: string | URL;
  /** How the models are loaded. */
  load?: Omit<LoadOptions, "quantize" | "quantizeCache" | "onProgress" | "signal">;
  /** Called with each row as it is known. If it throws, comparing ends with that error. */
  onRow?: (row: QuantizationRow) => void;
}

/** What becomes of a model. */
export interface QuantizationRow {
  /** `"none"` is the model as it is. */
  type: QuantizationType | "none";
  /** Of all weights. */
  bytes: number;
  bitsPerWeight: number;
  perplexity: Estimate;
  /** Of the perplexity, to the model's as it is. */
  perplexityRatio: Estimate;
  /** Kullback-Leibler divergence from the model as it is, nats. */
  divergence: Estimate;
  /** Share of places at which both find the same token the most likely. */
  topAgreement: Estimate;
}

const SAME: Pick<QuantizationRow, "perplexityRatio" | "divergence" | "topAgreement"> = {
  perplexityRatio: { value: 1, low: 1, high: 1 },
  divergence: { value: 0, low: 0, high: 0 },
  topAgreement: { value: 1, low: 1, high: 1 },
};

/**
 * What quantizing a model to each of several types saves and costs: size, perplexity, and how far its distributions are from
 * those of the model as it is. Nothing is written: each is quantized while it is loaded, beside the model as it is.
 *
 * Rejects as `loadModel()`, `quantizeModel()` and `evaluate()`.
 */
export async function compareQuantizations(
  path: string | URL,
  options: CompareQuantizationsOptions,
): Promise<QuantizationRow[]> {
  const names = ["types", "text", "chunkLength", "importanceMatrix", "load", "onRow", ...WATCH_NAMES] as const;
  const read = new OptionReader(options, names satisfies readonly (keyof CompareQuantizationsOptions)[]);
  const source = toPath(path);
  const { types, text, importanceMatrix } = options;
  if (!Array.isArray(types) || types.length === 0) throw invalidOption("types", types, "an array of types");
  const chunkLength = read.integer("chunkLength", 8, 2 ** 20, undefined);
  const onRow = read.callback("onRow") as CompareQuantizationsOptions["onRow"];
  const watch = readWatch(read, "Comparing");
  const recipes = types.map((type: QuantizationType) => ({ type, ...(importanceMatrix && { importanceMatrix }) }));
  await checkRecipes(source, recipes);

  const rows: QuantizationRow[] = [];
  const add = (row: QuantizationRow) => {
    rows.push(row);
    onRow?.(row);
  };
  const load = { ...options.load, ...(watch.signal && { signal: watch.signal }) };
  const part = partsOf(watch, recipes.length + 1);
  const task = { type: "perplexity" as const, text, ...(chunkLength !== undefined && { chunkLength }) };
  await using base = await loadModel(source, load);
  add({ type: "none", ...sizeOf(base), ...(await measure(base, task, part(0))) });
  for (const [i, recipe] of recipes.entries()) {
    await using model = await loadModel(source, { ...load, quantize: recipe });
    add({ type: recipe.type, ...sizeOf(model), ...(await measure(model, { ...task, base }, part(i + 1))) });
  }
  return rows;
}

/** Before anything takes long: that the model can be quantized so. */
async function checkRecipes(path: string, recipes: readonly QuantizeOptions[]): Promise<void> {
  for (const recipe of recipes) await quantizeModel(path, `${path}.compared`, { ...recipe, dryRun: true });
}

/** The part of the whole that a model is. */
function partsOf({ onProgress, signal }: Watch, count: number): (index: number) => WatchOptions {
  return (index) => ({
    ...(signal && { signal }),
    ...(onProgress && { onProgress: (fraction: number) => onProgress((index + fraction) / count) }),
  });
}

async function measure(
  model: Model,
  task: { type: "perplexity"; text: string; chunkLength?: number; base?: Model },
  watch: WatchOptions,
): Promise<Omit<QuantizationRow, "type" | "bytes" | "bitsPerWeight">> {
  const { perplexity, comparison }: PerplexityResult = await evaluate(model, task, watch);
  if (comparison === undefined) return { perplexity, ...SAME };
  const { perplexityRatio, topAgreement, divergence } = comparison;
  const { value, low, high } = divergence;
  return { perplexity, perplexityRatio, topAgreement, divergence: { value, low, high } };
}

function sizeOf({ info }: Model): { bytes: number; bitsPerWeight: number } {
  return { bytes: info.weightBytes, bitsPerWeight: (8 * info.weightBytes) / Math.max(1, info.parameters) };
}
