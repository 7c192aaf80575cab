// The AI SDK's options as those of answers.

import type { LanguageModelV4CallOptions, SharedV4Warning } from "@ai-sdk/provider";
import type { AnswerOptions, Tool } from "../index.js";

export interface CallOptions {
  options: AnswerOptions;
  /** Of the answer, when tools have no more to say. */
  format: AnswerOptions["responseFormat"];
  warnings: SharedV4Warning[];
}

export function toOptions(call: LanguageModelV4CallOptions, settings: AnswerOptions): CallOptions {
  const { responseFormat, abortSignal, reasoning, providerOptions } = call;
  const warnings: SharedV4Warning[] = [];
  const tools: Tool[] = [];
  for (const tool of call.tools ?? []) {
    if (tool.type !== "function") {
      warnings.push({ type: "unsupported", feature: `tool ${tool.id}`, details: "It is a tool of another provider." });
      continue;
    }
    const { name, description = "", inputSchema } = tool;
    tools.push({ name, description, parameters: inputSchema as Record<string, unknown> });
  }
  const format: AnswerOptions["responseFormat"] =
    responseFormat?.type === "json"
      ? { type: "json", ...(responseFormat.schema && { schema: responseFormat.schema as Record<string, unknown> }) }
      : undefined;
  const options: AnswerOptions = {
    ...settings,
    ...given("maxTokens", call.maxOutputTokens),
    ...given("temperature", call.temperature),
    ...given("topP", call.topP),
    ...given("topK", call.topK),
    ...given("presencePenalty", call.presencePenalty),
    ...given("frequencyPenalty", call.frequencyPenalty),
    ...given("stop", call.stopSequences),
    ...given("seed", call.seed),
    ...given("signal", abortSignal),
    ...(reasoning !== undefined && toThinking(reasoning, settings)),
    ...(tools.length > 0 && { tools, toolChoice: toChoice(call.toolChoice) }),
    ...(providerOptions?.["coldstart"] as AnswerOptions | undefined),
  };
  return { options, format, warnings };
}

function given<Name extends keyof AnswerOptions>(name: Name, value: AnswerOptions[Name] | undefined): AnswerOptions {
  return value === undefined ? {} : { [name]: value };
}

function toChoice(choice: LanguageModelV4CallOptions["toolChoice"]): NonNullable<AnswerOptions["toolChoice"]> {
  if (choice === undefined) return "auto";
  return choice.type === "tool" ? { name: choice.toolName } : choice.type;
}

const EFFORTS: Readonly<Record<string, string>> = {
  minimal: "low",
  low: "low",
  medium: "medium",
  high: "high",
  xhigh: "high",
  max: "high",
};

/** Templates that know of efforts have three. */
function toThinking(
  reasoning: NonNullable<LanguageModelV4CallOptions["reasoning"]>,
  { templateVariables }: AnswerOptions,
): AnswerOptions {
  if (reasoning === "none") return { thinking: false };
  const effort = EFFORTS[reasoning];
  return effort === undefined ? {} : { templateVariables: { ...templateVariables, reasoning_effort: effort } };
}
