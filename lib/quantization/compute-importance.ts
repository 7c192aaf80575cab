import { ColdstartError } from "../errors.js";
import { encodeHeader, paddingAfter, string, uint32, type Entry, type TensorInfo } from "../gguf/encode.js";
import { writeModel } from "../gguf/output.js";
import { readWatch, WATCH_NAMES, type Watch, type WatchOptions } from "../gguf/watch.js";
import type { Piece } from "../gguf/write.js";
import { Model } from "../model.js";
import type { NativeActivationSquares } from "../native.js";
import { invalidOption, OptionReader, toPath } from "../options.js";
import { toChunks } from "../text-chunks.js";

export interface ImportanceOptions extends WatchOptions {
  /** Tokens that are read at a time, from 1 to the context length. Default: 512, or the context length where that is less. */
  chunkLength?: number;
  /** Also of the output matrix. Default false: it is not quantized to few bits. */
  outputMatrix?: boolean;
  /** Read the text of special tokens as those tokens. Default false. */
  parseSpecial?: boolean;
  /** Names of the texts, which are kept in the file. Default: none. */
  datasets?: string[];
}

export interface ImportanceResult {
  path: string;
  /** Tokens read; what is left of the texts after the last whole chunk is not. */
  tokens: number;
  chunks: number;
  /** Matrices whose columns were measured. */
  matrices: number;
  /** Experts that no token was sent to: what matters of them is not known. More text may help. */
  unseenExperts: number;
}

/**
 * Measures which weights of a model matter: how large what each column of each matrix is multiplied with is, while the model
 * reads `texts`. `quantizeModel()` and `loadModel({ quantize })` take the file as `importanceMatrix` and spare those columns.
 *
 * Texts like those that the model will be used for do best; some hundred thousand tokens are enough. They are read one after
 * the other, in chunks, each from its beginning. The file is llama.cpp's (`llama-imatrix`), and the numbers are the same.
 *
 * It runs between the steps of generations, in a context of its own, which takes memory for a chunk.
 *
 * Rejects with `INVALID_OPTION`, `CONTEXT_OVERFLOW`, `OUT_OF_MEMORY`, `NUMERIC_ERROR`, `UNSUPPORTED_MODEL`, `WRITE_FAILED`,
 * `ABORTED`, `DISPOSED`.
 */
export async function computeImportance(
  model: Model,
  texts: string | Iterable<string>,
  output: string | URL,
  options: ImportanceOptions = {},
): Promise<ImportanceResult> {
  if (!(model instanceof Model)) throw invalidOption("model", model, "a model that loadModel() returned");
  const names = ["chunkLength", "outputMatrix", "parseSpecial", "datasets", ...WATCH_NAMES] as const;
  const read = new OptionReader(options, names satisfies readonly (keyof ImportanceOptions)[]);
  const { contextLength } = model.placement;
  const chunkLength = read.integer("chunkLength", 1, 2 ** 20, Math.min(512, contextLength));
  const outputMatrix = read.boolean("outputMatrix", false);
  const datasets = read.strings("datasets", []);
  const parseSpecial = read.boolean("parseSpecial", false);
  const watch = readWatch(read, "Measuring importance");
  const path = toPath(output, "output");
  watch.checkAborted();

  const { chunks } = await toChunks(model, checkTexts(texts), chunkLength, parseSpecial);
  const tokens = new Int32Array(chunks.length * chunkLength);
  chunks.forEach((chunk, i) => tokens.set(chunk, i * chunkLength));
  const matrices = await measure(model, { tokens, chunkLength, output: outputMatrix }, watch);
  await writeImportance(path, matrices, { datasets, chunks: chunks.length, chunkLength }, watch);
  const unseenExperts = matrices.reduce((sum, { counts }) => sum + counts.filter((count) => count === 0).length, 0);
  return { path, tokens: tokens.length, chunks: chunks.length, matrices: matrices.length, unseenExperts };
}

function checkTexts(texts: unknown): string[] {
  const all = typeof texts === "string" ? [texts] : isIterable(texts) ? [...texts] : undefined;
  if (all?.every((text) => typeof text === "string") && all.length > 0) return all;
  throw invalidOption("texts", texts, "a string, or an iterable of strings");
}

function isIterable(value: unknown): value is Iterable<unknown> {
  return typeof value === "object" && value !== null && Symbol.iterator in value;
}

async function measure(
  model: Model,
  request: { tokens: Int32Array; chunkLength: number; output: boolean },
  { onProgress, signal, checkAborted }: Watch,
): Promise<NativeActivationSquares[]> {
  const stop = new AbortController();
  let thrown: { error: unknown } | undefined;
  const report = (fraction: number) => {
    try {
      onProgress?.(fraction);
    } catch (error) {
      thrown ??= { error };
      stop.abort();
    }
  };
  const ended = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
  const matrices = await model.calibrate(request, report, ended);
  if (thrown) throw thrown.error;
  checkAborted();
  if (matrices !== undefined && matrices.length > 0) return matrices;
  throw new ColdstartError("UNSUPPORTED_MODEL", "The model multiplies with no matrix that can be quantized.", {
    remedy: "Quantize it without an importance matrix.",
  });
}

/** Where the keys and names are written is llama.cpp's tools/imatrix/imatrix.cpp: save_imatrix(). */
async function writeImportance(
  path: string,
  matrices: readonly NativeActivationSquares[],
  { datasets, chunks, chunkLength }: { datasets: string[]; chunks: number; chunkLength: number },
  { checkAborted }: Watch,
): Promise<void> {
  const metadata: Entry[] = [
    string("general.type", "imatrix"),
    { key: "imatrix.datasets", type: "array", of: "string", values: datasets },
    uint32("imatrix.chunk_count", chunks),
    uint32("imatrix.chunk_size", chunkLength),
  ];
  const tensors: TensorInfo[] = [];
  const data: Piece[] = [];
  for (const { name, sums, counts } of matrices) {
    const count = counts.length;
    const stack = count > 1 ? [count] : [];
    tensors.push({ name: `${name}.in_sum2`, type: "F32", shape: [sums.length / count, ...stack] });
    tensors.push({ name: `${name}.counts`, type: "F32", shape: [1, ...stack] });
    for (const values of [sums, counts]) {
      const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
      data.push(bytes, Buffer.alloc(paddingAfter(bytes.length)));
    }
  }
  const { header } = encodeHeader(metadata, tensors);
  await writeModel([{ path, pieces: [header, ...data] }], { onProgress: undefined, signal: undefined, checkAborted });
}
