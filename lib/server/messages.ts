// OpenAI's messages as those of a chat. Pure.

import type { AssistantMessage, ChatMessage, ContentPart, ToolCall, UserMessage } from "../index.js";
import { badRequest } from "./errors.js";

export interface PartBody {
  type: string;
  text?: string;
  image_url?: { url?: string };
  input_audio?: { data?: string };
}

export interface MessageBody {
  role: string;
  content?: string | PartBody[] | null;
  name?: string;
  reasoning_content?: string | null;
  tool_calls?: { id?: string; type?: string; function?: { name?: string; arguments?: string } }[] | null;
  tool_call_id?: string;
}

/** Throws 400. */
export function toMessages(bodies: readonly MessageBody[]): ChatMessage[] {
  const names = new Map<string, string>(); // Of tools, by calls.
  return bodies.map((body, i): ChatMessage => {
    const at = `messages[${i}]`;
    switch (body.role) {
      case "system":
      case "developer":
        return { role: "system", content: textOf(body, at) };
      case "user":
        return { role: "user", content: toContent(body, at) };
      case "assistant": {
        const message = toAssistant(body, at);
        for (const { id, name } of message.toolCalls ?? []) names.set(id, name);
        return message;
      }
      case "tool": {
        const toolCallId = body.tool_call_id ?? "";
        return { role: "tool", toolCallId, name: body.name ?? names.get(toolCallId) ?? "", content: textOf(body, at) };
      }
      default:
        throw badRequest(`${at}.role is ${JSON.stringify(body.role)}: no role of a message.`, "messages");
    }
  });
}

function textOf({ content }: MessageBody, at: string): string {
  if (typeof content === "string") return content;
  return (content ?? [])
    .map(({ type, text }, i) => {
      if (type === "text" && typeof text === "string") return text;
      throw badRequest(`${at}.content[${i}] is of the type ${type}, and this message has text alone.`, "messages");
    })
    .join("");
}

function toContent(body: MessageBody, at: string): UserMessage["content"] {
  if (!Array.isArray(body.content)) return textOf(body, at);
  if (body.content.every(({ type }) => type === "text")) return textOf(body, at);
  return body.content.map((part, i) => toPart(part, `${at}.content[${i}]`));
}

/** Files come with the request: nothing is fetched, and no path is read. */
function toPart({ type, text, image_url: image, input_audio: audio }: PartBody, at: string): ContentPart {
  if (type === "text" && typeof text === "string") return { type, text };
  if (type === "image_url") {
    const [, data] = /^data:[^,]*;base64,(.*)$/s.exec(image?.url ?? "") ?? [];
    if (data !== undefined) return { type: "image", data };
    throw badRequest(`${at}.image_url is no data: URL in base64. Others are not fetched.`, "messages");
  }
  if (type === "input_audio" && typeof audio?.data === "string") return { type: "audio", data: audio.data };
  throw badRequest(`${at} is of the type ${type}, which cannot be read.`, "messages");
}

function toAssistant(body: MessageBody, at: string): AssistantMessage {
  const calls = (body.tool_calls ?? []).map((call, i): ToolCall => {
    const { name, arguments: text } = call.function ?? {};
    if (name === undefined) throw badRequest(`${at}.tool_calls[${i}] has no function.`, "messages");
    return { id: call.id ?? "", name, arguments: parsed(text ?? "{}") };
  });
  const { reasoning_content: reasoning } = body;
  return {
    role: "assistant",
    content: textOf(body, at),
    ...(typeof reasoning === "string" && { reasoning }),
    ...(calls.length > 0 && { toolCalls: calls }),
  };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}
