// The messages of a chat, as plain data.

import { checkPart, toNative, type ContentPart } from "../media.js";
import type { NativeMedia } from "../native.js";
import { invalidOption, OptionReader, show } from "../options.js";

export interface SystemMessage {
  role: "system";
  content: string;
}

export interface UserMessage {
  role: "user";
  /** What is said, or parts of it in turn. */
  content: string | readonly ContentPart[];
}

/** A call of a tool that the model asks for. */
export interface ToolCall {
  /** Nine letters and digits, or what the model's format has. */
  id: string;
  name: string;
  /** What the model gave: an object as `parameters` of the tool describes it, or its text where that is no JSON. */
  arguments: unknown;
}

export interface AssistantMessage {
  role: "assistant";
  /** What it says; empty when it only calls tools. */
  content: string;
  /** What it thought before, where the template tells that apart. */
  reasoning?: string;
  toolCalls?: ToolCall[];
}

/** What a tool gave back. */
export interface ToolMessage {
  role: "tool";
  toolCallId: string;
  /** The tool's. */
  name: string;
  content: string;
}

/** One message of a chat: plain data, for `JSON.stringify()` and `structuredClone()`. */
export type ChatMessage = SystemMessage | UserMessage | AssistantMessage | ToolMessage;

const FIELDS = {
  system: ["role", "content"],
  user: ["role", "content"],
  assistant: ["role", "content", "reasoning", "toolCalls"],
  tool: ["role", "toolCallId", "name", "content"],
} as const;

/** Throws `INVALID_OPTION`. */
export function checkMessages(value: unknown, option: string): asserts value is ChatMessage[] {
  if (!Array.isArray(value)) throw invalidOption(option, value, "an array of messages");
  value.forEach((message: unknown, index) => checkMessage(message, `${option}[${index}]`));
}

function checkMessage(message: unknown, name: string): void {
  const role = (message as Partial<ChatMessage> | null | undefined)?.role;
  if (role === undefined || !Object.hasOwn(FIELDS, role))
    throw invalidOption(`${name}.role`, role, `one of ${Object.keys(FIELDS).map(show).join(", ")}`);
  const read = new OptionReader(message, FIELDS[role], `${name}.`);
  const content = read.raw("content");
  if (role === "user" && Array.isArray(content)) {
    if (content.length === 0) throw invalidOption(`${name}.content`, content, "a string, or at least one part");
    content.forEach((part: unknown, index) => checkPart(part, `${name}.content[${index}]`));
    return;
  }
  const required = role === "tool" ? ["toolCallId", "name", "content"] : ["content"];
  for (const field of required)
    if (typeof read.raw(field) !== "string") throw invalidOption(`${name}.${field}`, read.raw(field), "a string");
  if (role !== "assistant") return;
  read.string("reasoning", "");
  const calls = read.raw("toolCalls") ?? [];
  if (!Array.isArray(calls)) throw invalidOption(`${name}.toolCalls`, calls, "an array");
  calls.forEach((call: unknown, index) => {
    const at = `${name}.toolCalls[${index}]`;
    const of = new OptionReader(call, ["id", "name", "arguments"], `${at}.`);
    for (const field of ["id", "name"])
      if (typeof of.raw(field) !== "string") throw invalidOption(`${at}.${field}`, of.raw(field), "a string");
  });
}

/** The images and recordings of messages, in turn. */
export function mediaOf(messages: readonly ChatMessage[]): NativeMedia[] {
  return messages.flatMap(({ content }) =>
    typeof content === "string" ? [] : content.filter((part) => part.type !== "text").map(toNative),
  );
}

/** As OpenAI's API has them, which is what templates know, with a marker in the place of each image and recording. */
export function toOpenAi(message: ChatMessage, mediaMarker = ""): Record<string, unknown> {
  const { role, content } = message;
  if (typeof content !== "string")
    return {
      role,
      content: content.map((part) => (part.type === "text" ? part : { type: "media_marker", text: mediaMarker })),
    };
  if (role === "tool") return { role, content, tool_call_id: message.toolCallId, name: message.name };
  if (role !== "assistant") return { role, content };
  const { reasoning, toolCalls = [] } = message;
  return {
    role,
    content,
    ...(reasoning !== undefined && reasoning !== "" && { reasoning_content: reasoning }),
    ...(toolCalls.length > 0 && {
      tool_calls: toolCalls.map(({ id, name, arguments: given }) => ({
        id,
        type: "function",
        // Templates want an object.
        function: { name, arguments: JSON.stringify(typeof given === "object" ? (given ?? {}) : { unparsed: given }) },
      })),
    }),
  };
}
