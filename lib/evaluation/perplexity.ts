import { ColdstartError } from "../errors.js";
import { Model } from "../model.js";
import type { NativeScored } from "../native.js";
import { invalidOption, OptionReader } from "../options.js";
import type { Evaluation } from "./evaluate.js";
import { toChunks } from "../text-chunks.js";
import { Moments, quantile, wilson, type Estimate } from "./statistics.js";

/** Tokens of a chunk. */
const DEFAULT_CHUNK = 512;

export interface PerplexityTask {
  type: "perplexity";
  /** At least as many tokens as a chunk; what is left at its end after the last whole chunk does not count. */
  text: string;
  /**
   * Tokens of a chunk, at least 8. The second half of each is scored, with the first before it. Default: 512, or the context
   * length where that is less. As `llama-perplexity` does, so that the numbers are comparable.
   */
  chunkLength?: number;
  /** Read the text of special tokens as those tokens. Default false. */
  parseSpecial?: boolean;
  /** Also compare with this model, which must have the same vocabulary: the one that was quantized, for example. */
  base?: Model;
}

export interface PerplexityResult {
  /** How many tokens the model hesitates between, in effect: exp of the mean negative log-probability. */
  perplexity: Estimate;
  /** Mean log-probability of a token, natural logarithm. */
  logprob: Estimate;
  /** Tokens scored. */
  tokens: number;
  /** Chunks done, and all. */
  chunks: number;
  totalChunks: number;
  /** With `base`. */
  comparison?: Comparison;
}

/** How a model differs from its base. */
export interface Comparison {
  basePerplexity: Estimate;
  /** Of the model's perplexity to the base's; of the same tokens, and so more certain than both. */
  perplexityRatio: Estimate;
  /** Kullback-Leibler divergence of the distributions from the base's, nats: 0 for the same model. */
  divergence: Estimate & { median: number; p90: number; p99: number; max: number };
  /** Share of places at which both find the same token the most likely. */
  topAgreement: Estimate;
  /** Change of the probability of the text's tokens. */
  probabilityChange: { mean: Estimate; rms: number };
}

interface CheckedPerplexity {
  text: string;
  parseSpecial: boolean;
  chunkLength: number | undefined;
  base: Model | undefined;
}

export function checkPerplexity(task: unknown): CheckedPerplexity {
  const read = new OptionReader(task, ["type", "text", "chunkLength", "base", "parseSpecial"], "task.");
  const base = read.raw("base");
  if (base !== undefined && !(base instanceof Model)) throw invalidOption("task.base", base, "a loaded model");
  const text = read.raw("text");
  if (typeof text !== "string") throw invalidOption("task.text", text, "a string");
  const chunkLength = read.integer("chunkLength", 8, 2 ** 20, undefined);
  return { text, chunkLength, base, parseSpecial: read.boolean("parseSpecial", false) };
}

export async function evaluatePerplexity(
  task: CheckedPerplexity,
  { model, onProgress, onResult, signal, checkAborted }: Evaluation<PerplexityResult>,
): Promise<PerplexityResult> {
  const { base } = task;
  const chunks = await chunksOf(model, task);
  const from = Math.floor((chunks[0]?.length ?? 0) / 2) + 1;
  const sums = new Sums(base !== undefined, chunks.length);
  // One chunk is computed while the next one waits, so that the engine does not wait for JavaScript. With a base, which may
  // use the same cores, and whose distributions take memory, one after the other.
  const ahead: Promise<[NativeScored, NativeScored | undefined]>[] = [];
  const next = chunks.values();
  const start = () => {
    const tokens = next.next().value;
    if (tokens === undefined) return;
    const started = scoreChunk(model, base, { tokens, from }, signal);
    started.catch(() => undefined); // Whoever waits for it hears of it.
    ahead.push(started);
  };
  start();
  if (base === undefined) start();
  for (let scored = ahead.shift(); scored !== undefined; scored = ahead.shift()) {
    const [own, others] = await scored;
    checkAborted();
    sums.add(own, others);
    onResult?.(sums.result());
    onProgress?.(sums.chunks / chunks.length);
    start();
  }
  return sums.result();
}

async function scoreChunk(
  model: Model,
  base: Model | undefined,
  scored: { tokens: Int32Array; from: number },
  signal: AbortSignal | undefined,
): Promise<[NativeScored, NativeScored | undefined]> {
  if (base === undefined) return [await model.scoreTokens(scored, { signal }), undefined];
  const others = await base.scoreTokens(scored, { distributions: true, signal });
  return [await model.scoreTokens(scored, { base: others.distributions, signal }), others];
}

/** Throws `UNSUPPORTED_MODEL` when the base has another vocabulary. */
async function chunksOf(
  model: Model,
  { text, chunkLength, base, parseSpecial }: CheckedPerplexity,
): Promise<Int32Array[]> {
  const length = chunkLength ?? Math.min(DEFAULT_CHUNK, model.placement.contextLength);
  const { chunks, tokens } = await toChunks(model, [text], length, parseSpecial);
  if (base === undefined) return chunks;
  const others = await toChunks(base, [text], length, parseSpecial);
  const [size, baseSize] = [model.info.vocabulary.size, base.info.vocabulary.size];
  if (size === baseSize && Buffer.compare(bytesOf(tokens), bytesOf(others.tokens)) === 0) return chunks;
  throw new ColdstartError("UNSUPPORTED_MODEL", "The two models have different vocabularies.", {
    remedy: "Compare a model with what it was made of.",
    details: { size, baseSize },
  });
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Int32Array) => Buffer.from(buffer, byteOffset, byteLength);

class Sums {
  chunks = 0;
  readonly #totalChunks: number;
  readonly #logprobs = new Moments();
  readonly #comparison: ComparisonSums | undefined;

  constructor(compares: boolean, totalChunks: number) {
    this.#totalChunks = totalChunks;
    if (compares) this.#comparison = new ComparisonSums();
  }

  add(own: NativeScored, others: NativeScored | undefined): void {
    this.chunks++;
    for (const logprob of own.logprobs) this.#logprobs.add(logprob);
    if (others) this.#comparison?.add(own, others);
  }

  result(): PerplexityResult {
    const logprobs = this.#logprobs;
    return {
      perplexity: logprobs.estimate((mean) => Math.exp(-mean)),
      logprob: logprobs.estimate(),
      tokens: logprobs.count,
      chunks: this.chunks,
      totalChunks: this.#totalChunks,
      ...(this.#comparison && { comparison: this.#comparison.result() }),
    };
  }
}

class ComparisonSums {
  readonly #base = new Moments();
  readonly #differences = new Moments();
  readonly #changes = new Moments();
  readonly #divergences = new Moments();
  readonly #all: number[] = [];
  #squares = 0;
  #agreed = 0;

  add(own: NativeScored, others: NativeScored): void {
    own.divergences.forEach((rounded, i) => {
      const [logprob = 0, base = 0] = [own.logprobs[i], others.logprobs[i]];
      const change = Math.exp(logprob) - Math.exp(base);
      this.#base.add(base);
      this.#differences.add(base - logprob);
      this.#changes.add(change);
      this.#squares += change * change;
      // Rounding can make it a little less than nothing.
      const divergence = Math.max(rounded, 0);
      this.#divergences.add(divergence);
      this.#all.push(divergence);
      if (own.likeliest[i] === others.likeliest[i]) this.#agreed++;
    });
  }

  result(): Comparison {
    const sorted = Float64Array.from(this.#all).sort();
    const count = sorted.length;
    const mean = this.#divergences.estimate();
    return {
      basePerplexity: this.#base.estimate((x) => Math.exp(-x)),
      perplexityRatio: this.#differences.estimate(Math.exp),
      divergence: {
        ...mean,
        low: Math.max(mean.low, 0),
        median: quantile(sorted, 0.5),
        p90: quantile(sorted, 0.9),
        p99: quantile(sorted, 0.99),
        max: quantile(sorted, 1),
      },
      topAgreement: wilson(this.#agreed, count),
      probabilityChange: { mean: this.#changes.estimate(), rms: Math.sqrt(this.#squares / count) },
    };
  }
}
