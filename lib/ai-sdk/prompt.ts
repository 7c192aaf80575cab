// The AI SDK's prompts as messages of a chat.

import type {
  LanguageModelV4FilePart,
  LanguageModelV4Message,
  LanguageModelV4Prompt,
  LanguageModelV4ToolResultOutput,
} from "@ai-sdk/provider";
import { ColdstartError, type AssistantMessage, type ChatMessage, type MediaPart, type UserMessage } from "../index.js";

export function toMessages(prompt: LanguageModelV4Prompt): ChatMessage[] {
  return prompt.flatMap((message): ChatMessage[] => {
    switch (message.role) {
      case "system":
        return [{ role: "system", content: message.content }];
      case "user":
        return [{ role: "user", content: toContent(message.content) }];
      case "assistant":
        return [toAssistant(message)];
      case "tool":
        return message.content.flatMap((part) =>
          part.type === "tool-result"
            ? [{ role: "tool", toolCallId: part.toolCallId, name: part.toolName, content: outputOf(part.output) }]
            : [],
        );
    }
  });
}

/** One string where there is text alone. */
function toContent(parts: Extract<LanguageModelV4Message, { role: "user" }>["content"]): UserMessage["content"] {
  if (parts.every(({ type }) => type === "text")) return parts.map(textOf).join("");
  return parts.map((part) => (part.type === "file" ? toMedia(part) : { type: "text", text: textOf(part) }));
}

function toMedia({ mediaType, data }: LanguageModelV4FilePart): MediaPart {
  const [kind] = mediaType.split("/");
  // Others are fetched by the SDK, since no URLs are said to be supported.
  if ((kind === "image" || kind === "audio") && data.type === "data") return { type: kind, data: data.data };
  throw unsupported(`file (${mediaType}, ${data.type})`);
}

function toAssistant({ content }: Extract<LanguageModelV4Message, { role: "assistant" }>): AssistantMessage {
  const parts = <T extends string>(type: T) =>
    content.filter((part): part is Extract<(typeof content)[number], { type: T }> => part.type === type);
  const other = content.find(({ type }) => !["text", "reasoning", "tool-call"].includes(type));
  if (other) throw unsupported(other.type);
  const reasoning = parts("reasoning")
    .map(({ text }) => text)
    .join("");
  const toolCalls = parts("tool-call").map(({ toolCallId, toolName, input }) => ({
    id: toolCallId,
    name: toolName,
    arguments: input,
  }));
  return {
    role: "assistant",
    content: parts("text")
      .map(({ text }) => text)
      .join(""),
    ...(reasoning !== "" && { reasoning }),
    ...(toolCalls.length > 0 && { toolCalls }),
  };
}

function textOf(part: { type: string; text?: string }): string {
  if (part.type === "text" && part.text !== undefined) return part.text;
  throw unsupported(part.type);
}

function outputOf(output: LanguageModelV4ToolResultOutput): string {
  switch (output.type) {
    case "text":
    case "error-text":
      return output.value;
    case "json":
    case "error-json":
      return JSON.stringify(output.value);
    case "execution-denied":
      return output.reason ?? "The user did not allow this call.";
    case "content":
      return output.value.map(textOf).join("");
  }
}

function unsupported(type: string): ColdstartError {
  return new ColdstartError("INVALID_OPTION", `The prompt has a part of the type ${type}, which cannot be read.`, {
    remedy: "Give text, images, recordings, reasoning and calls of tools.",
    details: { type },
  });
}
