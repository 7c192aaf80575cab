/**
 * A chat model for LangChain (`@langchain/core`, version 1).
 *
 * @module
 */

import type { CallbackManagerForLLMRun } from "@langchain/core/callbacks/manager";
import type { BaseLanguageModelInput, StructuredOutputMethodOptions } from "@langchain/core/language_models/base";
import {
  BaseChatModel,
  type BaseChatModelCallOptions,
  type BaseChatModelParams,
  type BindToolsInput,
} from "@langchain/core/language_models/chat_models";
import { AIMessageChunk, type BaseMessage, type UsageMetadata } from "@langchain/core/messages";
import { ChatGenerationChunk, type ChatResult } from "@langchain/core/outputs";
import { RunnableLambda, type Runnable } from "@langchain/core/runnables";
import { toJsonSchema } from "@langchain/core/utils/json_schema";
import type { SerializableSchema } from "@langchain/core/utils/standard_schema";
import { interopParse, isInteropZodSchema, type InteropZodType } from "@langchain/core/utils/types";
import { convertToOpenAITool } from "@langchain/core/utils/function_calling";
import type { AnswerOptions, AnswerPiece, AnswerResult, Tool } from "../index.js";
import { idOf, take, type ModelOrPool } from "../pool/model-or-pool.js";
import { toMessages } from "./messages.js";

export type { ModelOrPool };

/** What a chat model is made with: options of all its answers, besides. */
export interface ChatColdstartFields
  extends BaseChatModelParams, Omit<AnswerOptions, "tools" | "toolChoice" | "signal"> {
  /** A loaded model, or one of a pool by its name, which is loaded when it is used. */
  model: ModelOrPool;
}

/** What a call can say: `options` go before those that the model was made with. */
export interface ChatColdstartCallOptions extends BaseChatModelCallOptions {
  tools?: BindToolsInput[];
  options?: AnswerOptions;
}

/** As `BaseChatModel` has it. */
export type SchemaOf<Output> = SerializableSchema<Output> | InteropZodType<Output> | Record<string, unknown>;

/** A model of this process for LangChain: `invoke()`, `stream()`, `bindTools()`, `withStructuredOutput()`. */
export class ChatColdstart extends BaseChatModel<ChatColdstartCallOptions> {
  readonly #source: ModelOrPool;
  readonly #settings: AnswerOptions;

  constructor({ model, ...fields }: ChatColdstartFields) {
    super(fields);
    this.#source = model;
    const ours = new Set<string>(PARAMETERS);
    this.#settings = Object.fromEntries(Object.entries(fields).filter(([name]) => !ours.has(name)));
  }

  static override lc_name(): string {
    return "ChatColdstart";
  }

  _llmType(): string {
    return "coldstart";
  }

  override bindTools(
    tools: BindToolsInput[],
    kwargs: Partial<ChatColdstartCallOptions> = {},
  ): Runnable<BaseLanguageModelInput, AIMessageChunk, ChatColdstartCallOptions> {
    return this.withConfig({ tools, ...kwargs });
  }

  /** The answer is JSON that fits the schema: a grammar keeps to it, whatever the model's way to call tools is. */
  override withStructuredOutput<Output extends Record<string, unknown>>(
    schema: SchemaOf<Output>,
    config?: StructuredOutputMethodOptions,
  ): Runnable<BaseLanguageModelInput, Output>;
  override withStructuredOutput<Output extends Record<string, unknown>>(
    schema: SchemaOf<Output>,
    config?: StructuredOutputMethodOptions<true>,
  ): Runnable<BaseLanguageModelInput, { raw: BaseMessage; parsed: Output }>;
  override withStructuredOutput<Output extends Record<string, unknown>>(
    schema: SchemaOf<Output>,
    { includeRaw = false }: StructuredOutputMethodOptions<boolean> = {},
  ) {
    const responseFormat = { type: "json" as const, schema: toJsonSchema(schema as never) };
    const parse = (text: string): unknown => {
      const value: unknown = JSON.parse(text);
      return isInteropZodSchema(schema) ? interopParse(schema, value) : value;
    };
    const read = (message: AIMessageChunk): unknown => {
      if (!includeRaw) return parse(message.text);
      try {
        return { raw: message, parsed: parse(message.text) };
      } catch {
        return { raw: message, parsed: null };
      }
    };
    return this.withConfig({ options: { responseFormat } }).pipe(RunnableLambda.from(read)) as never;
  }

  async _generate(
    messages: BaseMessage[],
    options: this["ParsedCallOptions"],
    runManager?: CallbackManagerForLLMRun,
  ): Promise<ChatResult> {
    const result = await this.#answer(messages, options, async ({ type, ...piece }) => {
      if (type === "text" && "text" in piece) await runManager?.handleLLMNewToken(piece.text);
    });
    const { content, reasoning, toolCalls = [] } = result.message;
    const message = new AIMessageChunk({
      content,
      tool_calls: toolCalls.map(({ id, name, arguments: given }) => ({
        id,
        name,
        args: typeof given === "object" && given !== null ? (given as Record<string, unknown>) : {},
        type: "tool_call",
      })),
      ...(reasoning !== undefined && { additional_kwargs: { reasoning_content: reasoning } }),
      ...this.#end(result),
    });
    return { generations: [{ text: content, message }], llmOutput: { tokenUsage: usageOf(result) } };
  }

  override async *_streamResponseChunks(
    messages: BaseMessage[],
    options: this["ParsedCallOptions"],
    runManager?: CallbackManagerForLLMRun,
  ): AsyncGenerator<ChatGenerationChunk> {
    const waiting: AnswerPiece[] = [];
    const state = { isDone: false, wake: (): void => undefined };
    const leave = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, leave.signal]) : leave.signal;
    const answered = this.#answer(messages, { ...options, signal }, (piece) => {
      waiting.push(piece);
      state.wake();
    }).finally(() => {
      state.isDone = true;
      state.wake();
    });
    answered.catch(() => undefined); // Awaited below, unless the reader leaves.
    const begun = new Set<number>();
    try {
      while (!state.isDone || waiting.length > 0) {
        const piece = waiting.shift();
        if (piece === undefined) {
          await new Promise<void>((resolve) => (state.wake = resolve));
          continue;
        }
        const text = piece.type === "text" ? piece.text : "";
        const chunk = new ChatGenerationChunk({ text, message: toChunk(piece, begun) });
        yield chunk;
        await runManager?.handleLLMNewToken(text, undefined, undefined, undefined, undefined, { chunk });
      }
      const message = new AIMessageChunk({ content: "", ...this.#end(await answered) });
      yield new ChatGenerationChunk({ text: "", message });
    } finally {
      leave.abort();
    }
  }

  async #answer(
    messages: BaseMessage[],
    options: this["ParsedCallOptions"],
    emit: (piece: AnswerPiece) => void | Promise<void>,
  ): Promise<AnswerResult> {
    const { signal } = options;
    const { model, release } = await take(this.#source, signal);
    try {
      const answer = model.answer(toMessages(messages), toOptions(this.#settings, options));
      for await (const piece of answer) await emit(piece);
      const result = await answer.result;
      signal?.throwIfAborted();
      return result;
    } finally {
      release();
    }
  }

  #end(result: AnswerResult): { response_metadata: Record<string, unknown>; usage_metadata: never } {
    return {
      response_metadata: { model_name: idOf(this.#source), finish_reason: result.finishReason },
      // Of @langchain/core 1.4.0, TypeScript 6 makes its type never.
      usage_metadata: usageOf(result) as never,
    };
  }
}

/** LangChain's own fields. */
const PARAMETERS = [
  "name", "verbose", "callbacks", "tags", "metadata", "cache", "callbackManager", "maxConcurrency", "maxRetries", "onFailedAttempt",
  "disableStreaming", "outputVersion",
] satisfies readonly (keyof BaseChatModelParams | "name" | "callbackManager")[]; // prettier-ignore

function toOptions(settings: AnswerOptions, call: ChatColdstartCallOptions): AnswerOptions {
  const { tools = [], tool_choice: choice, stop, signal, options } = call;
  return {
    ...settings,
    ...(stop !== undefined && { stop }),
    ...(tools.length > 0 && { tools: tools.map(toTool), toolChoice: toChoice(choice) }),
    ...options,
    ...(signal && { signal }),
  };
}

function toTool(tool: BindToolsInput): Tool {
  const { name, description = "", parameters } = convertToOpenAITool(tool as never).function;
  return { name, description, parameters };
}

function toChoice(choice: ChatColdstartCallOptions["tool_choice"]): NonNullable<AnswerOptions["toolChoice"]> {
  if (choice === undefined || choice === "auto" || choice === "none") return choice ?? "auto";
  if (choice === "any" || choice === "required") return "required";
  if (typeof choice === "string") return { name: choice };
  return { name: (choice as { function?: { name?: string } }).function?.name ?? "" };
}

/** @param begun calls whose id and name were told */
function toChunk(piece: AnswerPiece, begun: Set<number>): AIMessageChunk {
  if (piece.type === "text") return new AIMessageChunk({ content: piece.text });
  if (piece.type === "reasoning")
    return new AIMessageChunk({ content: "", additional_kwargs: { reasoning_content: piece.text } });
  const { index, id, name, arguments: args } = piece;
  const isFirst = !begun.has(index);
  begun.add(index);
  return new AIMessageChunk({
    content: "",
    tool_call_chunks: [{ type: "tool_call_chunk", index, args, ...(isFirst && { id, name }) }],
  });
}

function usageOf({ usage }: AnswerResult): UsageMetadata {
  const { promptTokens, completionTokens, cachedTokens } = usage;
  return {
    input_tokens: promptTokens,
    output_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    input_token_details: { cache_read: cachedTokens },
  };
}
