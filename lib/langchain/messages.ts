// LangChain's messages as those of a chat.

import { AIMessage, ToolMessage, type BaseMessage, type ContentBlock } from "@langchain/core/messages";
import { ColdstartError, type ChatMessage, type ContentPart, type UserMessage } from "../index.js";

export function toMessages(messages: readonly BaseMessage[]): ChatMessage[] {
  return messages.map((message): ChatMessage => {
    if (AIMessage.isInstance(message)) return toAssistant(message);
    if (ToolMessage.isInstance(message)) {
      const { tool_call_id: toolCallId, name = "", text: content } = message;
      return { role: "tool", toolCallId, name, content };
    }
    if (message.type === "human") return { role: "user", content: toContent(message) };
    if (message.type === "system" || message.type === "developer") return { role: "system", content: message.text };
    throw unsupported(`message of the type ${message.type}`);
  });
}

function toAssistant(message: AIMessage) {
  const reasoning = message.additional_kwargs["reasoning_content"];
  const calls = (message.tool_calls ?? []).map(({ id = "", name, args }) => ({ id, name, arguments: args }));
  return {
    role: "assistant" as const,
    content: message.text,
    ...(typeof reasoning === "string" && { reasoning }),
    ...(calls.length > 0 && { toolCalls: calls }),
  };
}

/** One string where there is text alone. */
function toContent(message: BaseMessage): UserMessage["content"] {
  if (typeof message.content === "string") return message.content;
  const parts = message.contentBlocks.map(toPart);
  return parts.every(({ type }) => type === "text") ? message.text : parts;
}

function toPart(block: ContentBlock): ContentPart {
  const { type, text, data, url } = block as { type: string; text?: string; data?: Uint8Array | string; url?: string };
  if (type === "text") return { type, text: text ?? "" };
  const inline = data ?? /^data:[^,]*;base64,(.*)$/s.exec(url ?? "")?.[1];
  if ((type === "image" || type === "audio") && inline !== undefined) return { type, data: inline };
  throw unsupported(`part of the type ${type}${url === undefined ? "" : ", which has a URL"}`);
}

function unsupported(what: string): ColdstartError {
  return new ColdstartError("INVALID_OPTION", `The prompt has a ${what}, which cannot be read.`, {
    remedy: "Give text, and images or recordings as data.",
  });
}
