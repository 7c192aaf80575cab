// The options of answers, checked.

import { checkGenerate, type CheckedRequest, type GenerateOptions, type OptionsHost } from "../generate-options.js";
import { invalidOption, OptionReader } from "../options.js";
import { checkTools, type CheckedTool, type Tool } from "./tools.js";

export interface AnswerOptions<T = unknown> extends Omit<GenerateOptions<T>, "parseSpecial" | "suffix"> {
  /** What the model may call. */
  tools?: readonly Tool[];
  /** `"auto"` (default): as the model likes; `"required"`: at least one tool is called; `"none"`; or the one of this name. */
  toolChoice?: "auto" | "required" | "none" | { name: string };
  /** Let it ask for several calls in one answer, where its format can. Default true. */
  parallelToolCalls?: boolean;
  /**
   * Whether the model is to think first, if it can be told by its template. Default true. `budget`: most tokens of it, after which
   * `message` (default: none) and the end of thinking are put in.
   */
  thinking?: boolean | { budget: number; message?: string };
  /** The template instead of the model's own: Jinja, or `"chatml"`. */
  chatTemplate?: string;
  /** Variables for the template, such as `reasoning_effort`. */
  templateVariables?: Readonly<Record<string, unknown>>;
}

const NAMES = [
  "tools", "toolChoice", "parallelToolCalls", "thinking", "chatTemplate", "templateVariables",
] as const satisfies readonly (keyof AnswerOptions)[]; // prettier-ignore

export interface CheckedAnswer {
  /** Its prompt is yet to be made. */
  generate: CheckedRequest;
  tools: CheckedTool[];
  toolChoice: "auto" | "required" | "none";
  parallelToolCalls: boolean;
  thinks: boolean;
  thinkingBudget: number | undefined;
  thinkingMessage: string;
  chatTemplate: string | undefined;
  variables: Record<string, unknown>;
}

/** Throws `INVALID_OPTION`. */
export function checkAnswer(options: AnswerOptions, host: OptionsHost): CheckedAnswer {
  const isOwn = (name: string) => (NAMES as readonly string[]).includes(name);
  const entries = Object.entries(options);
  const own = Object.fromEntries(entries.filter(([name]) => isOwn(name)));
  const rest: GenerateOptions = Object.fromEntries(entries.filter(([name]) => !isOwn(name)));
  if (rest.parseSpecial !== undefined)
    throw invalidOption("parseSpecial", rest.parseSpecial, "left out: templates have special tokens");
  if (rest.suffix !== undefined) throw invalidOption("suffix", rest.suffix, "left out of chats");
  const generate = checkGenerate("-", rest, host);

  const read = new OptionReader(own, NAMES);
  const tools = checkTools(read.raw("tools"), "tools");
  const choice = read.raw("toolChoice") ?? "auto";
  if (tools.length > 0 && choice !== "none" && generate.request.grammar !== "") {
    const option = rest.grammar === undefined ? "responseFormat" : "grammar";
    const expected = `left out with tools, or toolChoice: "none" once they have been called: what they are called with has a form of its own`;
    throw invalidOption(option, rest[option], expected);
  }
  const isChoice = choice === "auto" || choice === "required" || choice === "none";
  const named = isChoice ? tools : tools.filter(({ name }) => name === (choice as { name?: unknown }).name);
  if (!isChoice && named.length === 0)
    throw invalidOption("toolChoice", choice, '"auto", "required", "none" or the name of a tool');
  if (choice === "required" && tools.length === 0) throw invalidOption("toolChoice", choice, "left out without tools");
  const thinking = read.raw("thinking") ?? true;
  const budget = typeof thinking === "boolean" ? undefined : read.nested("thinking", ["budget", "message"]);
  const variables = read.raw("templateVariables") ?? {};
  if (typeof variables !== "object" || Array.isArray(variables))
    throw invalidOption("templateVariables", variables, "an object");
  const chatTemplate = read.string("chatTemplate", "");
  return {
    generate,
    tools: named,
    toolChoice: isChoice ? choice : "required",
    parallelToolCalls: read.boolean("parallelToolCalls", true),
    thinks: thinking !== false,
    thinkingBudget: budget?.integer("budget", 0, 2 ** 31 - 1, undefined),
    thinkingMessage: budget?.string("message", "") ?? "",
    chatTemplate: chatTemplate === "" ? undefined : chatTemplate,
    variables: variables as Record<string, unknown>,
  };
}
