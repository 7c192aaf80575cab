import { ColdstartError } from "../errors.js";
import { withoutSeed, type OptionsHost } from "../generate-options.js";
import { Streamed } from "../streamed.js";
import { invalidOption, OptionReader } from "../options.js";
import { answer, mergePieces, readAnswer, type AnswerHost, type AnswerResult } from "./answer.js";
import { checkAnswer, type AnswerOptions, type CheckedAnswer } from "./answer-options.js";
import type { AnswerPiece } from "./follow-answer.js";
import { checkMessages, type AssistantMessage, type ChatMessage, type ToolCall, type ToolMessage } from "./messages.js";

export interface ChatOptions<T = unknown> extends AnswerOptions<T> {
  /** How the model is to behave: the first message. */
  system?: string;
  /** The messages so far, as `chat.messages` had them. */
  messages?: readonly ChatMessage[];
  /** Most answers to one `send()`: calls of tools make several. Default 8. */
  maxSteps?: number;
}

export interface SendOptions<T = unknown> extends AnswerOptions<T> {
  /** What the answer begins with. */
  prefill?: string;
  /** As in `chat()`. */
  maxSteps?: number;
}

/** What came since the last piece, of one answer after the other (`step`, from 0 on), and of tools in between. */
export type ReplyPiece =
  | (AnswerPiece & { step: number })
  /** What a tool gave back; `failed` when it threw. */
  | { type: "toolResult"; step: number; toolCallId: string; name: string; content: string; failed: boolean };

export interface ReplyResult extends AnswerResult {
  /** All that `send()` has added to the chat. */
  messages: ChatMessage[];
  /** Of each answer, in turn; the last one is this result's own. */
  steps: AnswerResult[];
  /** Of all answers together. */
  usage: AnswerResult["usage"];
}

/** What `send()` gives: the model's answers, and what tools gave back in between, while they come. */
export class Reply<T = unknown> extends Streamed<ReplyPiece, ReplyResult> {
  readonly #checked: CheckedAnswer;

  /** @internal Use `chat.send()`. */
  constructor(
    checked: CheckedAnswer,
    run: (emit: (piece: ReplyPiece) => void, signal: AbortSignal) => Promise<ReplyResult>,
  ) {
    super("reply", mergeReplies, run);
    this.#checked = checked;
  }

  /** All that the last answer says. */
  async text(): Promise<string> {
    return (await this.result).message.content;
  }

  /** What the last answer says, read as JSON: with `responseFormat`. Rejects with `INCOMPLETE_ANSWER`. */
  async json(): Promise<T> {
    return (await readAnswer(await this.result, this.#checked)) as T;
  }
}

function mergeReplies(waiting: ReplyPiece, next: ReplyPiece): boolean {
  if (waiting.type === "toolResult" || next.type === "toolResult" || waiting.step !== next.step) return false;
  return mergePieces(waiting, next);
}

/**
 * A conversation. Its history is `messages`, plain data: save it, change it, give it to another chat. What was computed for it stays
 * in the KV cache as long as there is room, so that each turn computes what is new.
 */
export class Chat {
  /** All messages. To be changed between two calls of `send()` only. */
  messages: ChatMessage[];

  readonly #host: AnswerHost;
  readonly #options: Omit<ChatOptions, "system" | "messages">;
  #busy = false;

  /** @internal Use `model.chat()`. */
  constructor(host: AnswerHost, { system, messages = [], ...options }: ChatOptions) {
    if (system !== undefined && typeof system !== "string") throw invalidOption("system", system, "a string");
    checkMessages(messages, "messages");
    if (system !== undefined && messages.some(({ role }) => role === "system"))
      throw invalidOption("system", system, "left out with messages that have one");
    this.#host = host;
    this.#options = options;
    this.#check(options, withoutSeed(host));
    const copies = structuredClone(messages);
    this.messages = system === undefined ? [...copies] : [{ role: "system", content: system }, ...copies];
  }

  /**
   * Says something and returns the reply at once, while it is on its way. Tools that the model calls are run and their results
   * told it, until it has no more calls, or `maxSteps` answers were given. The messages of a reply join the chat when it is done,
   * also when it was cancelled; of one that fails none do.
   *
   * @param content what the user says, or messages (results of tools that have no `run`)
   * @throws `INVALID_OPTION`, also while another reply is on its way. What can only be known later rejects `result`:
   * `CHAT_TEMPLATE_FAILED`, and all that generations do.
   */
  send<T = unknown>(content: string | ChatMessage | readonly ChatMessage[], options: SendOptions<T> = {}): Reply<T> {
    if (this.#busy) {
      throw new ColdstartError("INVALID_OPTION", "The chat is busy with another reply.", {
        remedy: "Wait for it, cancel it, or fork() the chat before.",
      });
    }
    const { prefill, ...rest } = options;
    const { checked, maxSteps } = this.#check({ ...this.#options, ...rest }, this.#host);
    const added = toMessages(content);
    if (prefill !== undefined && (typeof prefill !== "string" || prefill === ""))
      throw invalidOption("prefill", prefill, "a string with at least one character");
    this.#busy = true;
    return new Reply<T>(checked, async (emit, signal) => {
      try {
        return await this.#reply(added, prefill, checked, maxSteps, emit, signal);
      } finally {
        this.#busy = false;
      }
    });
  }

  /** Another chat with the same messages and options. */
  fork(): Chat {
    return new Chat(this.#host, { ...this.#options, messages: this.messages });
  }

  #check(
    { maxSteps, ...options }: Omit<ChatOptions, "system" | "messages">,
    host: OptionsHost,
  ): { checked: CheckedAnswer; maxSteps: number } {
    const checked = checkAnswer(options, host);
    return { checked, maxSteps: new OptionReader({ maxSteps }, ["maxSteps"]).integer("maxSteps", 1, 1000, 8) };
  }

  async #reply(
    added: ChatMessage[],
    prefill: string | undefined,
    checked: CheckedAnswer,
    maxSteps: number,
    emit: (piece: ReplyPiece) => void,
    cancelled: AbortSignal,
  ): Promise<ReplyResult> {
    const before = this.messages;
    const steps: AnswerResult[] = [];
    const given = checked.generate.signal;
    const signal = given ? AbortSignal.any([given, cancelled]) : cancelled;
    for (let step = 0; ; step++) {
      const messages = [...before, ...added];
      if (step === 0 && prefill !== undefined) messages.push({ role: "assistant", content: prefill });
      // What had to be called was called.
      const now: CheckedAnswer =
        step > 0 && checked.toolChoice === "required" ? { ...checked, toolChoice: "auto" } : checked;
      const result = await answer(this.#host, messages, now, (piece) => emit({ ...piece, step }), signal);
      steps.push(result);
      if (result.finishReason !== "aborted" || !isEmpty(result.message)) added.push(result.message);
      const calls = result.message.toolCalls ?? [];
      const isDone = calls.length === 0 || result.finishReason !== "toolCalls" || steps.length === maxSteps;
      if (isDone || !calls.every(({ name }) => canRun(checked, name))) break;
      const results = await Promise.all(calls.map((call) => runTool(checked, call, signal)));
      for (const { message, failed } of results) {
        const { toolCallId, name, content } = message;
        added.push(message);
        emit({ type: "toolResult", step, toolCallId, name, content, failed });
      }
    }
    this.messages = [...before, ...added];
    return toResult(steps, added);
  }
}

function toMessages(content: unknown): ChatMessage[] {
  if (typeof content === "string") return [{ role: "user", content }];
  const messages: unknown = Array.isArray(content) ? content : [content];
  checkMessages(messages, "content");
  return structuredClone(messages);
}

function isEmpty({ content, reasoning, toolCalls }: AssistantMessage): boolean {
  return content === "" && reasoning === undefined && toolCalls === undefined;
}

/** A tool that there is not gives an error back, which the model may answer to. */
function canRun({ tools }: CheckedAnswer, name: string): boolean {
  return tools.find((tool) => tool.name === name)?.run !== undefined || !tools.some((tool) => tool.name === name);
}

async function runTool(
  { tools }: CheckedAnswer,
  call: ToolCall,
  signal: AbortSignal,
): Promise<{ message: ToolMessage; failed: boolean }> {
  const message = (content: string): ToolMessage => ({ role: "tool", toolCallId: call.id, name: call.name, content });
  try {
    const run = tools.find(({ name }) => name === call.name)?.run;
    if (!run) throw new Error(`There is no tool ${call.name}. There are: ${tools.map(({ name }) => name).join(", ")}.`);
    return { message: message(await run(call, signal)), failed: false };
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    return { message: message(JSON.stringify({ error: what })), failed: true };
  }
}

function toResult(steps: AnswerResult[], messages: ChatMessage[]): ReplyResult {
  const last = steps.at(-1) as AnswerResult;
  const sum = (field: keyof AnswerResult["usage"]) => steps.reduce((total, { usage }) => total + usage[field], 0);
  const usage = {
    promptTokens: sum("promptTokens"),
    completionTokens: sum("completionTokens"),
    cachedTokens: sum("cachedTokens"),
    droppedTokens: sum("droppedTokens"),
  };
  return { ...last, messages, steps, usage };
}
