import { randomInt } from "node:crypto";
import type { Engine } from "../engine.js";
import { noProjector, type OptionsHost } from "../generate-options.js";
import { Generation, type FinishReason, type GenerationResult } from "../generation.js";
import { native, type NativeAnswer, type NativeChatPrompt } from "../native.js";
import { Streamed } from "../streamed.js";
import { readJson } from "../structured/schema.js";
import type { CheckedAnswer } from "./answer-options.js";
import { followAnswer, type AnswerPiece } from "./follow-answer.js";
import { mediaOf, toOpenAi, type AssistantMessage, type ChatMessage } from "./messages.js";
import type { ChatTemplates } from "./template.js";

/** What answers need of their model. */
export interface AnswerHost extends OptionsHost {
  engine: Engine;
  templates: ChatTemplates;
}

export interface AnswerResult extends Omit<GenerationResult, "text" | "tokens" | "finishReason"> {
  /** For the history. */
  message: AssistantMessage;
  /** Why it ended: `toolCalls` when it asks for calls, or as a generation does. */
  finishReason: FinishReason | "toolCalls";
}

/** A model's answer to messages, while it comes: what it says, thinks, and calls. */
export class Answer<T = unknown> extends Streamed<AnswerPiece, AnswerResult> {
  readonly #checked: CheckedAnswer;

  /** @internal Use `model.answer()`. */
  constructor(host: AnswerHost, messages: readonly ChatMessage[], checked: CheckedAnswer) {
    super("answer", mergePieces, (emit, signal) => answer(host, messages, checked, emit, signal));
    this.#checked = checked;
  }

  /** All that it says. */
  async text(): Promise<string> {
    return (await this.result).message.content;
  }

  /** What it says, read as JSON: with `responseFormat`. Rejects as that of a generation, with `INCOMPLETE_ANSWER`. */
  async json(): Promise<T> {
    return (await readAnswer(await this.result, this.#checked)) as T;
  }
}

export function readAnswer(
  { message, finishReason, usage }: Pick<AnswerResult, "message" | "finishReason" | "usage">,
  { generate }: CheckedAnswer,
): Promise<unknown> {
  const { completionTokens } = usage;
  return readJson({ text: message.content, finishReason, completionTokens }, generate.validate);
}

export function mergePieces(waiting: AnswerPiece, next: AnswerPiece): boolean {
  if (waiting.type === "toolCall" && next.type === "toolCall" && waiting.index === next.index) {
    waiting.arguments += next.arguments;
    return true;
  }
  if (waiting.type === "toolCall" || next.type === "toolCall" || waiting.type !== next.type) return false;
  waiting.text += next.text;
  return true;
}

export async function answer(
  { engine, templates }: AnswerHost,
  messages: readonly ChatMessage[],
  checked: CheckedAnswer,
  emit: (piece: AnswerPiece) => void,
  signal: AbortSignal,
): Promise<AnswerResult> {
  const prompt = await renderPrompt(templates, messages, checked);
  const { generate } = checked;
  const media = mediaOf(messages);
  const signals = [signal, generate.signal].filter((one) => one !== undefined);
  const generation = new Generation(engine, {
    signal: AbortSignal.any(signals),
    request: {
      ...generate.request,
      ...toRequest(generate.request, prompt, checked),
      media,
      cancelled: signals.some((one) => one.aborted),
    },
  });
  const isWhole = async () => ["stop", "stopString"].includes((await generation.result).finishReason);
  const parser = new (native().AnswerParser)(prompt.format);
  const said = await followAnswer(generation, parser, isWhole, newCallId, emit);
  const { finishReason, stopString, logprobs, seed, usage, timings } = await generation.result;
  // Strings of the template are the model's way to say that it is done.
  const isOwn = finishReason === "stopString" && !generate.request.stop.includes(stopString ?? "");
  const ended = isOwn ? "stop" : finishReason;
  const message = toMessage(said, ended === "stop");
  return {
    message,
    finishReason: ended === "stop" && message.toolCalls ? "toolCalls" : ended,
    ...(ended === "stopString" && stopString !== undefined && { stopString }),
    ...(logprobs && { logprobs }),
    seed,
    usage,
    timings,
  };
}

export async function renderPrompt(
  templates: ChatTemplates,
  messages: readonly ChatMessage[],
  checked: CheckedAnswer,
): Promise<NativeChatPrompt> {
  const { tools, toolChoice, generate } = checked;
  const last = messages.at(-1);
  if (templates.mediaMarker === "" && mediaOf(messages).length > 0) throw noProjector();
  return templates.render(templates.choose(checked.chatTemplate, tools.length > 0), {
    messages: messages.map((message) => toOpenAi(message, templates.mediaMarker)),
    tools: tools.map(({ definition }) => definition),
    toolChoice: tools.length === 0 ? "none" : toolChoice,
    parallelToolCalls: checked.parallelToolCalls,
    thinking: checked.thinks,
    continue: last?.role === "assistant" && !last.toolCalls,
    variables: checked.variables,
    schema: generate.schema ?? "",
    grammar: generate.schema === undefined ? generate.request.grammar : "",
  });
}

function toRequest(request: CheckedAnswer["generate"]["request"], prompt: NativeChatPrompt, checked: CheckedAnswer) {
  const { thinkingBudget, thinkingMessage } = checked;
  return {
    prompt: prompt.text,
    parseSpecial: true,
    grammar: prompt.grammar === "" ? request.grammar : prompt.grammar,
    stop: [...request.stop, ...prompt.stop],
    answer: {
      beginning: prompt.format.generationPrompt,
      preserved: prompt.preserved,
      grammarFromBeginning: prompt.grammarFromPrompt,
      grammarLazy: prompt.grammarLazy,
      grammarTriggers: prompt.triggers,
      thinkingStart: prompt.thinkingStart,
      thinkingEnds: prompt.thinkingEnds,
      ...(thinkingBudget !== undefined && { thinkingBudget }),
      thinkingMessage,
    },
  };
}

/** Of an answer that was cut short the last call may be. */
function toMessage({ content, reasoning, toolCalls }: NativeAnswer, isWhole: boolean): AssistantMessage {
  const calls = toolCalls
    .map(({ id, name, arguments: text }) => ({ id, name, arguments: toArguments(text) }))
    .filter(({ arguments: given }) => isWhole || typeof given !== "string");
  return {
    role: "assistant",
    content,
    ...(reasoning !== "" && { reasoning }),
    ...(calls.length > 0 && { toolCalls: calls }),
  };
}

function toArguments(text: string): unknown {
  if (text.trim() === "") return {};
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

const LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/** What the templates of all families take: Mistral's want nine letters and digits. */
function newCallId(): string {
  return Array.from({ length: 9 }, () => LETTERS[randomInt(LETTERS.length)]).join("");
}
