// The options of OpenAI's API as those of generations and answers. Pure.

import type { AnswerOptions, GenerateOptions, Tool } from "../index.js";
import { badRequest } from "./errors.js";

/** What both kinds of completions have; beyond OpenAI's, the names are llama.cpp's and vLLM's. */
export interface SamplingBody {
  temperature?: number | null;
  top_p?: number | null;
  top_k?: number | null;
  min_p?: number | null;
  typical_p?: number | null;
  repeat_penalty?: number | null;
  presence_penalty?: number | null;
  frequency_penalty?: number | null;
  logit_bias?: Record<string, number> | null;
  seed?: number | null;
  stop?: string | string[] | null;
  grammar?: string | null;
  priority?: number | null;
}

export interface ResponseFormatBody {
  type: "text" | "json_object" | "json_schema";
  json_schema?: { schema?: Record<string, unknown> };
}

export interface ToolBody {
  type: string;
  function?: { name: string; description?: string; parameters?: Record<string, unknown> };
}

export type ToolChoiceBody = "auto" | "none" | "required" | { type: string; function?: { name: string } };

/** `undefined` and `null` values left out: then the default holds. */
function given<T extends object>(values: T): { [K in keyof T]?: Exclude<T[K], null | undefined> } {
  const entries = Object.entries(values).filter(([, value]) => value !== undefined && value !== null);
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], null | undefined> };
}

export function toSampling(body: SamplingBody, maxTokens: number | null | undefined): GenerateOptions {
  return given({
    maxTokens,
    temperature: body.temperature,
    topP: body.top_p,
    topK: body.top_k,
    minP: body.min_p,
    typicalP: body.typical_p,
    repeatPenalty: body.repeat_penalty,
    presencePenalty: body.presence_penalty,
    frequencyPenalty: body.frequency_penalty,
    logitBias: body.logit_bias,
    seed: body.seed,
    stop: body.stop,
    grammar: body.grammar,
    priority: body.priority,
    overflow: maxTokens === undefined || maxTokens === null ? ("stop" as const) : undefined,
  });
}

export function toFormat(format: ResponseFormatBody | null | undefined): Pick<AnswerOptions, "responseFormat"> {
  if (format === undefined || format === null || format.type === "text") return {};
  if (format.type === "json_object") return { responseFormat: { type: "json" } };
  const schema = format.json_schema?.schema;
  if (schema === undefined) throw badRequest("response_format has no json_schema.schema.", "response_format");
  return { responseFormat: { type: "json", schema } };
}

export function toTools(
  tools: readonly ToolBody[] | null | undefined,
  choice: ToolChoiceBody | null | undefined,
): Pick<AnswerOptions, "tools" | "toolChoice"> {
  if (!tools || tools.length === 0) return {};
  const toTool = ({ type, function: of }: ToolBody, i: number): Tool => {
    if (type !== "function" || of === undefined) throw badRequest(`tools[${i}] is no function.`, "tools");
    return { name: of.name, description: of.description ?? "", parameters: of.parameters ?? { type: "object" } };
  };
  const toChoice = (): NonNullable<AnswerOptions["toolChoice"]> => {
    if (choice === undefined || choice === null) return "auto";
    if (typeof choice === "string") return choice;
    if (choice.function === undefined) throw badRequest("tool_choice names no function.", "tool_choice");
    return { name: choice.function.name };
  };
  return { tools: tools.map(toTool), toolChoice: toChoice() };
}

/** OpenAI's word for why an answer ended. */
export function toFinishReason(reason: string): "stop" | "length" | "tool_calls" {
  if (reason === "toolCalls") return "tool_calls";
  return reason === "length" || reason === "context" ? "length" : "stop";
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
}

/** Of several answers to one prompt. */
export function toUsage(
  usages: readonly { promptTokens: number; completionTokens: number; cachedTokens: number }[],
): Usage {
  const prompt = usages[0]?.promptTokens ?? 0;
  const completion = usages.reduce((sum, { completionTokens }) => sum + completionTokens, 0);
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: usages[0]?.cachedTokens ?? 0 },
  };
}
