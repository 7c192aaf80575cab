// Texts as vectors, and documents in the order in which they answer a query.

import type { AdapterChoice } from "./adapters.js";
import { withResolvers, type Engine } from "./engine.js";
import { ColdstartError } from "./errors.js";
import type { OptionsHost } from "./generate-options.js";
import type { NativeEmbeddings } from "./native.js";
import { invalidOption, OptionReader } from "./options.js";

/** How the vectors of a text's tokens become one: llama.cpp's pooling types, in their order from 0 on. */
export const POOLINGS = ["none", "mean", "cls", "last", "rank"] as const;

/** `"cls"`: that of the first token, `"last"`: that of the last one, `"none"`: they do not. */
export type Pooling = "none" | "mean" | "cls" | "last";

interface InputOptions {
  /**
   * What happens to a text of more tokens than `placement.contextLength`. Default `"error"`: `CONTEXT_OVERFLOW`. `"end"` leaves out its
   * end, `"start"` its beginning; the tokens that the model expects around a text stay.
   */
  truncate?: "error" | "end" | "start";
  /** What is added to the model for these; see `GenerateOptions.adapters`. */
  adapters?: readonly AdapterChoice[];
  /** Gets the share of the texts that are done, 0 to 1. */
  onProgress?: (fraction: number) => void;
  /** Rejects with `ABORTED`. */
  signal?: AbortSignal;
}

export interface EmbedOptions extends InputOptions {
  /** Default: what the model's file says, or else `"mean"`. With `"none"` each text has a vector for each of its tokens. */
  pooling?: Pooling;
  /** Give each vector the (Euclidean) length 1. Default true. */
  normalize?: boolean;
  /** Only so many numbers of each vector, the first ones, before it is normalized: for models that were trained for that. Default: all. */
  dimensions?: number;
}

export interface RerankOptions extends InputOptions {
  /** Only so many documents, the best ones. Default: all. */
  topN?: number;
}

/** The vectors of texts. */
export interface Embeddings {
  /** One for each text, in their order: views of one buffer. With `pooling: "none"` the vectors of its tokens one after the other. */
  vectors: Float32Array[];
  /** Numbers of one vector. */
  dimensions: number;
  /** Tokens of each text that were read. */
  tokens: number[];
}

/** A document and how well it answers the query. */
export interface RankedDocument {
  /** In the documents that were given. */
  index: number;
  /** As the model gives it: larger is better. What range it has depends on the model. */
  score: number;
  document: string;
}

/** The parts of a model that embedding needs. */
export interface EmbedHost extends OptionsHost {
  engine: Engine;
}

const INPUT = ["truncate", "adapters", "onProgress", "signal"] as const satisfies readonly (keyof InputOptions)[];

export async function embed(host: EmbedHost, texts: unknown, options: EmbedOptions): Promise<Embeddings> {
  const read = new OptionReader(options, ["pooling", "normalize", "dimensions", ...INPUT]);
  const list = checkTexts(typeof texts === "string" ? [texts] : texts, "texts");
  const pooling = read.choice("pooling", ["own", "none", "mean", "cls", "last"] as const, "own");
  const shape = {
    pooling: (POOLINGS as readonly string[]).indexOf(pooling), // -1: the model's own
    normalize: read.boolean("normalize", true),
    dimensions: read.integer("dimensions", 1, 2 ** 31 - 1, undefined) ?? 0,
  };
  const { values, offsets, dimensions, tokens } = await request(host, { texts: list, ...shape }, read);
  const vectors = list.map((_, i) =>
    values.subarray((offsets[i] ?? 0) * dimensions, (offsets[i + 1] ?? 0) * dimensions),
  );
  return { vectors, dimensions, tokens: [...tokens] };
}

export async function rerank(
  host: EmbedHost,
  query: unknown,
  documents: unknown,
  options: RerankOptions,
): Promise<RankedDocument[]> {
  const read = new OptionReader(options, ["topN", ...INPUT]);
  const [checkedQuery] = checkTexts([query], "query");
  const list = checkTexts(documents, "documents");
  const topN = read.integer("topN", 1, 2 ** 31 - 1, list.length);
  const shape = { query: checkedQuery as string, pooling: -1, normalize: false, dimensions: 0 };
  const { values, dimensions } = await request(host, { texts: list, ...shape }, read);
  return list
    .map((document, index) => ({ index, score: values[index * dimensions] as number, document }))
    .sort((a, b) => b.score - a.score || a.index - b.index)
    .slice(0, topN);
}

function checkTexts(value: unknown, name: string): string[] {
  if (!Array.isArray(value)) throw invalidOption(name, value, "an array of strings");
  const bad = value.findIndex((text) => typeof text !== "string");
  if (bad !== -1) throw invalidOption(`${name}[${bad}]`, value[bad], "a string");
  return value as string[];
}

async function request(
  { engine, contextLength, adapters }: EmbedHost,
  input: { texts: string[]; query?: string; pooling: number; normalize: boolean; dimensions: number },
  read: OptionReader,
): Promise<NativeEmbeddings> {
  const signal = read.signal();
  const onProgress = read.callback("onProgress") as ((fraction: number) => void) | undefined;
  const truncate = read.choice("truncate", ["error", "end", "start"] as const, "error");
  const uses = adapters.choose(read.raw("adapters"));
  const none = { dimensions: 0, values: new Float32Array(), offsets: new Float64Array(), tokens: new Uint32Array() };
  if (signal?.aborted) throw aborted(signal);
  if (input.texts.length === 0) return none;
  const settled = withResolvers<NativeEmbeddings>();
  const cancel = engine.embed(
    { ...input, limit: contextLength, truncate, adapters: uses },
    {
      requestProgress: (fraction) => {
        try {
          onProgress?.(fraction);
        } catch (error) {
          settled.reject(error);
          cancel();
        }
      },
      embedded: (embeddings) => {
        if (embeddings) settled.resolve(embeddings);
        else settled.reject(aborted(signal));
      },
      failed: (error) => settled.reject(error),
    },
  );
  signal?.addEventListener("abort", cancel, { once: true });
  return settled.promise.finally(() => signal?.removeEventListener("abort", cancel));
}

function aborted(signal: AbortSignal | undefined): ColdstartError {
  return new ColdstartError("ABORTED", "Embedding was aborted.", {
    remedy: "Nothing was kept; start again when needed.",
    cause: signal?.reason,
  });
}
