import type {
  LanguageModelV4,
  LanguageModelV4CallOptions,
  LanguageModelV4Content,
  LanguageModelV4FinishReason,
  LanguageModelV4StreamPart,
  LanguageModelV4Usage,
} from "@ai-sdk/provider";
import type { AnswerOptions, AnswerPiece, AnswerResult, ChatMessage, Model } from "../index.js";
import { toOptions, type CallOptions } from "./options.js";
import { toMessages } from "./prompt.js";
import { idOf, take, type ModelOrPool } from "../pool/model-or-pool.js";

/**
 * A model for `generateText()`, `streamText()` and others of the AI SDK.
 *
 * @param settings options of all answers; what a call says goes before them, and its `providerOptions.coldstart` before that
 */
export function languageModel(source: ModelOrPool, settings: AnswerOptions = {}): LanguageModelV4 {
  return {
    specificationVersion: "v4",
    provider: "coldstart",
    modelId: idOf(source),
    supportedUrls: {},
    doGenerate: async (call) => {
      const { result, warnings } = await run(source, settings, call, () => undefined);
      return {
        content: toContent(result),
        finishReason: toFinishReason(result),
        usage: toUsage(result),
        warnings,
        response: { modelId: idOf(source), timestamp: new Date() },
      };
    },
    doStream: (call) => {
      const abort = new AbortController();
      const signal = call.abortSignal ? AbortSignal.any([call.abortSignal, abort.signal]) : abort.signal;
      const stream = new ReadableStream<LanguageModelV4StreamPart>({
        start: async (controller) => {
          const parts = new Parts((part) => controller.enqueue(part));
          try {
            const told = { ...call, abortSignal: signal };
            const { result } = await run(source, settings, told, (piece) => parts.add(piece), {
              begin: (warnings) => {
                controller.enqueue({ type: "stream-start", warnings });
                controller.enqueue({ type: "response-metadata", modelId: idOf(source), timestamp: new Date() });
              },
            });
            parts.end(result);
            controller.enqueue({ type: "finish", finishReason: toFinishReason(result), usage: toUsage(result) });
            controller.close();
          } catch (error) {
            if (!abort.signal.aborted) controller.error(error);
          }
        },
        cancel: () => abort.abort(),
      });
      return Promise.resolve({ stream });
    },
  };
}

async function run(
  source: ModelOrPool,
  settings: AnswerOptions,
  call: LanguageModelV4CallOptions,
  emit: (piece: AnswerPiece) => void,
  { begin }: { begin?: (warnings: CallOptions["warnings"]) => void } = {},
): Promise<{ result: AnswerResult; warnings: CallOptions["warnings"] }> {
  const messages = toMessages(call.prompt);
  const checked = toOptions(call, settings);
  begin?.(checked.warnings);
  const { model, release } = await take(source, call.abortSignal);
  try {
    const result = await answer(model, messages, checked, emit);
    call.abortSignal?.throwIfAborted();
    return { result, warnings: checked.warnings };
  } finally {
    release();
  }
}

/** With tools and a format: an answer that calls nothing is asked for again, in the format. */
async function answer(
  model: Model,
  messages: ChatMessage[],
  { options, format }: CallOptions,
  emit: (piece: AnswerPiece) => void,
): Promise<AnswerResult> {
  const hasTools = options.tools !== undefined && options.toolChoice !== "none";
  if (format && hasTools) {
    const pieces: AnswerPiece[] = [];
    const first = await follow(model, messages, options, (piece) => pieces.push(piece));
    if (first.finishReason === "toolCalls" || first.finishReason === "aborted") {
      pieces.forEach(emit);
      return first;
    }
    return follow(model, messages, { ...options, toolChoice: "none", responseFormat: format }, emit);
  }
  return follow(model, messages, { ...options, ...(format && { responseFormat: format }) }, emit);
}

async function follow(
  model: Model,
  messages: ChatMessage[],
  options: AnswerOptions,
  emit: (piece: AnswerPiece) => void,
): Promise<AnswerResult> {
  const answer = model.answer(messages, options);
  for await (const piece of answer) emit(piece);
  return answer.result;
}

/** Pieces as parts of a stream: each text has a beginning and an end. */
class Parts {
  readonly #enqueue: (part: LanguageModelV4StreamPart) => void;
  #open: { type: "text" | "reasoning"; id: string } | undefined;
  #count = 0;
  readonly #calls = new Set<string>();

  constructor(enqueue: (part: LanguageModelV4StreamPart) => void) {
    this.#enqueue = enqueue;
  }

  add(piece: AnswerPiece): void {
    if (piece.type === "toolCall") {
      this.#close();
      if (!this.#calls.has(piece.id)) {
        this.#calls.add(piece.id);
        this.#enqueue({ type: "tool-input-start", id: piece.id, toolName: piece.name });
      }
      if (piece.arguments !== "") this.#enqueue({ type: "tool-input-delta", id: piece.id, delta: piece.arguments });
      return;
    }
    if (this.#open?.type !== piece.type) {
      this.#close();
      this.#open = { type: piece.type, id: String(this.#count++) };
      this.#enqueue({ type: `${piece.type}-start`, id: this.#open.id });
    }
    this.#enqueue({ type: `${piece.type}-delta`, id: this.#open.id, delta: piece.text });
  }

  end(result: AnswerResult): void {
    this.#close();
    for (const id of this.#calls) this.#enqueue({ type: "tool-input-end", id });
    for (const part of toContent(result)) if (part.type === "tool-call") this.#enqueue(part);
  }

  #close(): void {
    if (this.#open) this.#enqueue({ type: `${this.#open.type}-end`, id: this.#open.id });
    this.#open = undefined;
  }
}

function toContent({ message }: AnswerResult): LanguageModelV4Content[] {
  const { content, reasoning, toolCalls = [] } = message;
  return [
    ...(reasoning === undefined ? [] : [{ type: "reasoning" as const, text: reasoning }]),
    ...(content === "" ? [] : [{ type: "text" as const, text: content }]),
    ...toolCalls.map(({ id, name, arguments: given }) => ({
      type: "tool-call" as const,
      toolCallId: id,
      toolName: name,
      input: typeof given === "string" ? given : JSON.stringify(given),
    })),
  ];
}

function toFinishReason({ finishReason }: AnswerResult): LanguageModelV4FinishReason {
  const unified = (
    { stop: "stop", stopString: "stop", length: "length", context: "length", toolCalls: "tool-calls" } as const
  )[finishReason as "stop"] as LanguageModelV4FinishReason["unified"] | undefined;
  return { unified: unified ?? "other", raw: finishReason };
}

function toUsage({ usage }: AnswerResult): LanguageModelV4Usage {
  const { promptTokens, cachedTokens, completionTokens } = usage;
  return {
    inputTokens: {
      total: promptTokens,
      noCache: promptTokens - cachedTokens,
      cacheRead: cachedTokens,
      cacheWrite: undefined,
    },
    outputTokens: { total: completionTokens, text: undefined, reasoning: undefined },
  };
}
