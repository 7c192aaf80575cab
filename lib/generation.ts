import type { Engine } from "./engine.js";
import { withResolvers } from "./engine.js";
import type { ColdstartError } from "./errors.js";
import type { CheckedRequest } from "./generate-options.js";
import { Inbox } from "./inbox.js";
import type { NativeChunk, NativeFinished } from "./native.js";
import { readJson } from "./structured/schema.js";

/** How likely the model found a token: natural logarithms, of its own distribution before any sampling option. */
export interface TokenLogprob {
  token: number;
  /** The token's text; bytes that are no whole character are shown as U+FFFD. */
  text: string;
  logprob: number;
  /** The most likely tokens at this place, most likely first, as many as asked for. */
  top: { token: number; text: string; logprob: number }[];
}

/** What came since the last chunk. */
export interface GenerationChunk {
  /** Whole characters, and never a part of a stop string. */
  text: string;
  /** The tokens sampled since the last chunk. */
  tokens: number[];
  /** One for each of `tokens`, when `logprobs` was asked for. */
  logprobs?: TokenLogprob[];
}

/**
 * Why a generation ended: `stop` the model said so, `stopString` one of `stop` came up, `length` at `maxTokens`,
 * `context` the context is full, `aborted` by a signal, `cancel()` or leaving the loop.
 */
export type FinishReason = "stop" | "stopString" | "length" | "context" | "aborted";

export interface GenerationResult {
  /** All chunks' texts together. */
  text: string;
  /** All tokens sampled; a stop string cuts the text within them. The token that ends the text is not among them. */
  tokens: number[];
  logprobs?: TokenLogprob[];
  finishReason: FinishReason;
  /** The stop string that came up, with `finishReason: "stopString"`. */
  stopString?: string;
  /** The seed used. */
  seed: number;
  usage: {
    promptTokens: number;
    completionTokens: number;
    /** Prompt tokens that did not have to be computed again. */
    cachedTokens: number;
    /** Tokens left out because the context was full, with `overflow: "shift"` or `"truncateMiddle"`. */
    droppedTokens: number;
  };
  /** Milliseconds, all from one monotonic clock in native code. */
  timings: {
    /** From the call to the start of the prompt's computation. */
    queue: number;
    /** From there to the first token. */
    prefill: number;
    /** From the call to the first token. Undefined when there was none. */
    timeToFirstToken: number | undefined;
    /** From the first token to the last. */
    decode: number;
    /** Tokens a second while decoding; undefined with fewer than two tokens. */
    tokensPerSecond: number | undefined;
    /** Tokens guessed by speculative decoding. */
    guessedTokens: number;
    /** Of them, those that were right. */
    acceptedTokens: number;
    /** Times it had to give its room to others and compute its tokens again. */
    preemptions: number;
  };
}

/**
 * A running generation: read it as an async iterable of chunks, as a web stream, or wait for all of it.
 *
 * It runs at its own speed whether or not it is read; chunks that wait to be read are merged, so that a slow reader gets
 * larger ones and no more than the text itself is kept. It can be read once. Leaving a `for await` loop early cancels it.
 */
export class Generation<T = unknown> implements AsyncIterable<GenerationChunk> {
  /** Settles at the end. Rejects with a {@link ColdstartError} (`CONTEXT_OVERFLOW`, `NUMERIC_ERROR`, `DISPOSED`, …). */
  readonly result: Promise<GenerationResult>;

  readonly #settled = withResolvers<GenerationResult>();
  readonly #validate: CheckedRequest["validate"];
  readonly #seed: number;
  readonly #signal: AbortSignal | undefined;
  readonly #cancel: () => void;
  readonly #atEnd: ((finished: NativeFinished | undefined) => void) | undefined;
  readonly #texts: string[] = [];
  readonly #tokens: number[] = [];
  #logprobs: TokenLogprob[] | undefined;
  readonly #inbox = new Inbox<GenerationChunk>("generation", mergeChunks, () => this.cancel());

  /** @internal Use `model.generate()`. */
  constructor(
    engine: Engine,
    { request, signal, validate }: CheckedRequest,
    atEnd?: (finished: NativeFinished | undefined) => void,
  ) {
    this.#atEnd = atEnd;
    this.#validate = validate;
    this.result = this.#settled.promise;
    this.#seed = request.seed;
    this.#signal = signal;
    this.#cancel = engine.submit(request, {
      chunk: (chunk) => this.#onChunk(chunk),
      finished: (finished) => this.#onFinished(finished),
      failed: (error) => {
        this.#atEnd?.(undefined);
        this.#onEnd(error);
      },
    });
    signal?.addEventListener("abort", this.#cancel, { once: true });
  }

  /** Ends the generation; the result resolves with `finishReason: "aborted"` and the text so far. */
  cancel(): void {
    this.#cancel();
  }

  /** The whole text. */
  async text(): Promise<string> {
    return (await this.result).text;
  }

  /**
   * The whole text, read as JSON: with `responseFormat`. Rejects with `INCOMPLETE_ANSWER` when it ended before the JSON did (by
   * `maxTokens`, a full context, a stop string, or aborted), when the text is no JSON, and when a schema of Zod or another library
   * does not take it.
   */
  async json(): Promise<T> {
    const { text, finishReason, usage } = await this.result;
    return (await readJson({ text, finishReason, completionTokens: usage.completionTokens }, this.#validate)) as T;
  }

  /** The chunks as a web stream; cancelling the stream cancels the generation. */
  readable(): ReadableStream<GenerationChunk> {
    return this.#inbox.readable();
  }

  [Symbol.asyncIterator](): AsyncIterator<GenerationChunk, undefined> {
    return this.#inbox.read();
  }

  #onChunk({ text, tokens, logprobs }: NativeChunk): void {
    this.#texts.push(text);
    for (const token of tokens) this.#tokens.push(token);
    if (logprobs) (this.#logprobs ??= []).push(...logprobs);
    this.#inbox.push({ text, tokens, ...(logprobs && { logprobs }) });
  }

  #onFinished(finished: NativeFinished): void {
    this.#atEnd?.(finished);
    const { completionTokens, decodeMs } = finished;
    this.#settled.resolve({
      text: this.#texts.join(""),
      tokens: this.#tokens,
      ...(this.#logprobs && { logprobs: this.#logprobs }),
      finishReason: finished.reason,
      ...(finished.reason === "stopString" && { stopString: finished.stopString }),
      seed: this.#seed,
      usage: {
        promptTokens: finished.promptTokens,
        completionTokens,
        cachedTokens: finished.cachedTokens,
        droppedTokens: finished.droppedTokens,
      },
      timings: {
        queue: finished.queueMs,
        prefill: finished.prefillMs,
        timeToFirstToken: finished.firstTokenMs < 0 ? undefined : finished.firstTokenMs,
        decode: decodeMs,
        tokensPerSecond: completionTokens > 1 && decodeMs > 0 ? ((completionTokens - 1) * 1000) / decodeMs : undefined,
        guessedTokens: finished.guessedTokens,
        acceptedTokens: finished.acceptedTokens,
        preemptions: finished.preemptions,
      },
    });
    this.#onEnd(undefined);
  }

  #onEnd(error: ColdstartError | undefined): void {
    if (error) this.#settled.reject(error);
    this.#signal?.removeEventListener("abort", this.#cancel);
    this.#inbox.end(error);
  }
}

function mergeChunks(waiting: GenerationChunk, { text, tokens, logprobs }: GenerationChunk): boolean {
  waiting.text += text;
  for (const token of tokens) waiting.tokens.push(token);
  if (logprobs) (waiting.logprobs ??= []).push(...logprobs);
  return true;
}
