import type { Adapter, Adapters } from "./adapters.js";
import { Answer, renderPrompt, type AnswerHost } from "./chat/answer.js";
import { checkAnswer, type AnswerOptions } from "./chat/answer-options.js";
import { Chat, type ChatOptions } from "./chat/chat.js";
import { checkMessages, type ChatMessage } from "./chat/messages.js";
import { ChatTemplates } from "./chat/template.js";
import {
  embed,
  rerank,
  type Embeddings,
  type EmbedOptions,
  type Pooling,
  type RankedDocument,
  type RerankOptions,
} from "./embed.js";
import { withResolvers, type Engine } from "./engine.js";
import {
  checkGenerate,
  checkTokens,
  withoutSeed,
  type GenerateOptions,
  type MixedPrompt,
  type OptionsHost,
  type Prompt,
} from "./generate-options.js";
import { Generation } from "./generation.js";
import type { MetadataValue, NativeActivationSquares, NativeCalibration, NativeScored } from "./native.js";
import { toModelMetrics, type ModelMetrics } from "./metrics/model-metrics.js";
import { invalidOption, OptionReader } from "./options.js";
import type { Plan } from "./placement/plan.js";
import {
  score,
  scoreTokens,
  type Score,
  type ScoredTokens,
  type ScoreOptions,
  type ScoreTokensOptions,
} from "./score.js";
import { Session, type SessionHost, type SessionOptions } from "./session.js";
import type { SnapshotOrigin } from "./snapshot.js";

/** What is known of a loaded model. */
export interface ModelInfo {
  /** As given to `loadModel()`. */
  path: string;
  /** The adapters that it was loaded with. */
  adapters: { path: string; scale: number }[];
  /** `"llama"`, `"qwen3"`, … */
  architecture: string;
  /** The author's name for it, if the file has one. */
  name: string | undefined;
  /** llama.cpp's one-line description: `"llama 1B Q4_K - Medium"`. */
  description: string;
  /** Number of weights. */
  parameters: number;
  /** `"F16"`, `"Q4_K - Medium"`, … */
  quantization: string;
  /** Bytes of all weights. */
  weightBytes: number;
  /** Tokens the model was trained to attend to. What is in force is `placement.contextLength`. */
  contextLength: number;
  layers: number;
  /** Width of the model. */
  embeddingLength: number;
  /** Whether it reads images: with `mmproj`. */
  images: boolean;
  /** Whether it reads recordings: with `mmproj`. */
  audio: boolean;
  /** Whether it generates text. Models that are made for embeddings alone do not. */
  generates: boolean;
  /** How embeddings are made, if the file says it; `"rank"`: it is a reranker. */
  pooling: Pooling | "rank" | undefined;
  vocabulary: {
    /** Tokens. */
    size: number;
    /** `tokenizer.ggml.model`: `"llama"` (SentencePiece), `"gpt2"` (byte-pair encoding), … */
    type: string;
    /** The beginning-of-text token. */
    bos: number | undefined;
    /** The end-of-text token. */
    eos: number | undefined;
  };
  /** The Jinja template for chats, if the file has one. */
  chatTemplate: string | undefined;
  /** All metadata of the file, by key. Long arrays are cut; `inspectGguf()` with `arrayLimit` has them whole. */
  metadata: Record<string, MetadataValue>;
}

/** Where a model is: the plan that was carried out, with what was really allocated in `devices`. */
export interface Placement extends Plan {
  /** How the weights were loaded; the option `loadMode` chooses. */
  loadMode: "mmap" | "copy" | "direct";
  /** Whether the files were read ahead. Not those of a model that does not fit into free memory. */
  prefetch: boolean;
  /** Whether a GPU selects the most likely tokens; the option `gpuSampling` asks for it. */
  gpuSampling: boolean;
  /** Most CPU threads; `status()` says how many are in use. */
  threads: number;
  /** The process that the model is in: this one, or with `isolation: "process"` its own. */
  pid: number;
}

export interface ModelStatus {
  /** Generations under way. */
  running: number;
  /** Generations in the queue. */
  waiting: number;
  /** Steps computed since loading. */
  steps: number;
  /** Tokens chosen from those that a GPU has selected, since loading; others needed the whole vocabulary. */
  gpuSampled: number;
  /** CPU threads in use. */
  threads: number;
  kvCache: {
    /** Tokens it can hold. */
    capacity: number;
    /** Tokens it holds, those kept for later included. */
    used: number;
    /** Of them, those of generations under way. */
    atWork: number;
    /** Bytes of prefixes that had to leave it. */
    spilledBytes: number;
  };
}

/** What a model is made of, besides its engine. */
interface ModelParts extends Pick<OptionsHost, "nextSeed" | "mediaMarker"> {
  adapters: Adapters;
  /** What snapshots are made with, of texts with these adapters. */
  origin: (adapters: [path: string, scale: number][]) => Promise<SnapshotOrigin>;
}

/** A loaded model. Make one with `loadModel()`. */
export class Model implements AsyncDisposable {
  readonly info: ModelInfo;
  readonly placement: Placement;

  readonly #engine: Engine;
  readonly #adapters: Adapters;
  /** What all that works on requests needs. */
  readonly #host: OptionsHost & { engine: Engine };
  readonly #templates: ChatTemplates;
  readonly #origin: SessionHost["origin"];

  /** @internal Use `loadModel()`. */
  constructor(
    engine: Engine,
    info: ModelInfo,
    placement: Placement,
    { adapters, nextSeed, mediaMarker, origin }: ModelParts,
  ) {
    this.#engine = engine;
    this.info = info;
    this.placement = placement;
    this.#adapters = adapters;
    this.#host = { engine, adapters, nextSeed, mediaMarker, contextLength: placement.contextLength };
    this.#templates = new ChatTemplates(engine, info, mediaMarker);
    this.#origin = (uses) => origin(adapters.filesOf(uses));
  }

  /**
   * Starts to continue `prompt` and returns at once. A string gets the tokens around it that the model expects (such as
   * beginning-of-text); token ids are taken as they are. Texts with images or recordings in between are a list of strings and these.
   *
   * @throws `INVALID_OPTION` for a bad prompt or option, `DISPOSED`. What can only be known later rejects `result`.
   */
  generate<T = unknown>(prompt: Prompt | MixedPrompt, options: GenerateOptions<T> = {}): Generation<T> {
    return new Generation(this.#engine, checkGenerate(prompt, options, this.#host));
  }

  /**
   * A conversation, by the model's own chat template: with tools, reasoning, and answers in a format.
   *
   * @throws `INVALID_OPTION`
   */
  chat(options: ChatOptions = {}): Chat {
    return new Chat(this.#answerHost(), options);
  }

  /**
   * Starts one answer to messages and returns at once: what `chat()` does for each of its steps. An assistant's message at the end is
   * the beginning of the answer.
   *
   * @throws `INVALID_OPTION`. What can only be known later rejects `result`: `CHAT_TEMPLATE_FAILED`, and all that generations do.
   */
  answer<T = unknown>(messages: readonly ChatMessage[], options: AnswerOptions<T> = {}): Answer<T> {
    checkMessages(messages, "messages");
    return new Answer<T>(this.#answerHost(), messages, checkAnswer(options, this.#host));
  }

  /**
   * The prompt that the chat template makes of messages, without the tokens that are put around a text.
   *
   * Rejects with `INVALID_OPTION`, `CHAT_TEMPLATE_FAILED`.
   */
  async renderChat(messages: readonly ChatMessage[], options: AnswerOptions = {}): Promise<string> {
    checkMessages(messages, "messages");
    const checked = checkAnswer(options, withoutSeed(this.#host));
    return (await renderPrompt(this.#templates, messages, checked)).text;
  }

  #answerHost(): AnswerHost {
    return { ...this.#host, templates: this.#templates };
  }

  /** A text that grows, empty or beginning with `tokens`. Nothing is computed yet. Throws `INVALID_OPTION`. */
  session(tokens: readonly number[] | Int32Array = [], options: SessionOptions = {}): Session {
    const host = { ...this.#host, origin: this.#origin };
    return new Session(host, Int32Array.from(checkTokens("tokens", tokens)), options);
  }

  /**
   * Loads one more adapter: a GGUF file with LoRA matrices (`convertAdapter()` makes one of PEFT's folders) or a control vector. It is
   * used by what asks for it in `adapters`. Generations under way wait while its weights are read.
   *
   * Rejects with `INVALID_OPTION`, `MODEL_NOT_FOUND`, `INVALID_GGUF`, `UNSUPPORTED_MODEL` (it is for another model), `LOAD_FAILED`,
   * `OUT_OF_MEMORY`, `DISPOSED`.
   */
  async loadAdapter(path: string | URL): Promise<Adapter> {
    return this.#adapters.load(path);
  }

  /** The adapters that are loaded: those that it was loaded with, and those that came later. */
  get adapters(): Adapter[] {
    return this.#adapters.all;
  }

  /**
   * The tokens of `text`.
   *
   * `addSpecial` (default true): with the tokens around it that the model expects.
   * `parseSpecial` (default true): read the text of special tokens as those tokens.
   *
   * Rejects with `TOKENIZE_FAILED`, `DISPOSED`.
   */
  async tokenize(text: string, options: { addSpecial?: boolean; parseSpecial?: boolean } = {}): Promise<number[]> {
    if (typeof text !== "string") throw invalidOption("text", text, "a string");
    const read = new OptionReader(options, ["addSpecial", "parseSpecial"]);
    return this.#engine.tokenize(text, read.boolean("addSpecial", true), read.boolean("parseSpecial", true));
  }

  /**
   * The text of `tokens`, as one of its own: where the vocabulary puts a space in front of a text, it is removed again.
   *
   * `renderSpecial` (default false): with special tokens as text.
   * Bytes that are no whole character become U+FFFD. Rejects with `INVALID_OPTION` for unknown ids, `DISPOSED`.
   */
  async detokenize(tokens: readonly number[] | Int32Array, options: { renderSpecial?: boolean } = {}): Promise<string> {
    const read = new OptionReader(options, ["renderSpecial"]);
    return this.#engine.detokenize(checkTokens("tokens", tokens), read.boolean("renderSpecial", false));
  }

  /**
   * How likely the model finds `text`, of each token, given all that precede it. Texts that begin alike, and many at a time,
   * share what is computed as generations do.
   *
   * Rejects with `INVALID_OPTION`, `TOKENIZE_FAILED`, `CONTEXT_OVERFLOW`, `QUEUE_FULL`, `NUMERIC_ERROR`, `ABORTED`, `DISPOSED`.
   */
  async score(text: Prompt, options: ScoreOptions = {}): Promise<Score> {
    return score(this.#host, text, options);
  }

  /**
   * The vectors of texts: of a model for embeddings, or of any other. Many texts, also of several calls, are read in one step. The
   * first call of a model that generates makes room for it beside the KV cache.
   *
   * Rejects with `INVALID_OPTION`, `CONTEXT_OVERFLOW` (a text that is too long, see `truncate`), `UNSUPPORTED_MODEL`, `OUT_OF_MEMORY`,
   * `TOKENIZE_FAILED`, `NUMERIC_ERROR`, `ABORTED`, `DISPOSED`.
   */
  async embed(texts: string | readonly string[], options: EmbedOptions = {}): Promise<Embeddings> {
    return embed(this.#host, texts, options);
  }

  /**
   * The documents in the order in which they answer the query, best first: of a reranker.
   *
   * Rejects as `embed()`; with `UNSUPPORTED_MODEL` where the model is none.
   */
  async rerank(query: string, documents: readonly string[], options: RerankOptions = {}): Promise<RankedDocument[]> {
    return rerank(this.#host, query, documents, options);
  }

  /** @internal For evaluations, which also compare whole distributions. */
  async scoreTokens(scored: ScoredTokens, options: ScoreTokensOptions): Promise<NativeScored> {
    return (await scoreTokens(this.#host, scored, options)).scored;
  }

  /** @internal Throws `INVALID_OPTION`, as `generate()` would. */
  checkOptions(options: GenerateOptions): void {
    checkGenerate("x", options, withoutSeed(this.#host));
  }

  /** @internal For computeImportance(). Undefined when it was aborted. */
  async calibrate(
    request: Omit<NativeCalibration, "id">,
    onProgress: (fraction: number) => void,
    signal: AbortSignal,
  ): Promise<NativeActivationSquares[] | undefined> {
    const settled = withResolvers<NativeActivationSquares[] | undefined>();
    if (signal.aborted) return undefined;
    const cancel = this.#engine.calibrate(request, {
      requestProgress: onProgress,
      calibrated: (matrices) => settled.resolve(matrices),
      failed: (error) => settled.reject(error),
    });
    signal.addEventListener("abort", cancel, { once: true });
    return settled.promise.finally(() => signal.removeEventListener("abort", cancel));
  }

  /** What the model is doing at this moment. */
  status(): ModelStatus {
    const { running, waiting, kvUsed, kvAtWork, spilledBytes, steps, gpuSampled, threads } = this.#engine.status();
    const { capacity } = this.placement.kvCache;
    return {
      running,
      waiting,
      steps,
      gpuSampled,
      threads,
      kvCache: { capacity, used: kvUsed, atWork: kvAtWork, spilledBytes },
    };
  }

  /**
   * What it has done since it was loaded: latencies with their percentiles, tokens, requests, the prefix cache. `coldstart/prometheus`
   * tells it Prometheus. Rejects with `ENGINE_CRASHED` when its process is gone.
   */
  async metrics(): Promise<ModelMetrics> {
    return toModelMetrics(await this.#engine.metrics());
  }

  /** True once `dispose()` was called or the engine ended by itself. */
  get disposed(): boolean {
    return this.#engine.ended !== undefined;
  }

  /** Frees everything. Generations under way fail with `DISPOSED`. May be called again. */
  async dispose(): Promise<void> {
    await this.#engine.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}
