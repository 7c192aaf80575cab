// Tools that a model may call.

import { ColdstartError } from "../errors.js";
import { invalidOption, OptionReader } from "../options.js";
import { checkSchema, type Schema } from "../structured/schema.js";
import type { ToolCall } from "./messages.js";

/** Schemas within each other; templates and converters call themselves for each. */
const MAX_DEPTH = 64;

/** What a tool may know of its call. */
export interface ToolContext {
  /** The call, as the model made it. */
  call: ToolCall;
  /** Of `send()`: ends the tool, too. */
  signal: AbortSignal | undefined;
}

/** Something a model may call. */
export interface Tool<T = unknown> {
  /** Letters, digits, `_` and `-`; what the model calls it by. */
  name: string;
  /** For the model: what it does, and when to use it. */
  description?: string;
  /** What `run` takes: JSON Schema of an object, or a schema of Zod and others. Default: nothing. */
  parameters?: Schema;
  /**
   * Does it. What it returns (or resolves to) is told the model, as text or as JSON; what it throws, as an error that the model may
   * answer to. Without it, calls come back from `send()` for you to answer.
   */
  run?(args: T, context: ToolContext): unknown;
}

/** A tool whose `run` has the type of its `parameters`: with Zod the schema's, with JSON Schema whatever you say. */
export function defineTool<T = Record<string, unknown>>(
  tool: Omit<Tool<T>, "parameters"> & { parameters?: Schema<T> },
): Tool<T> {
  checkTool(tool, "tool");
  return tool;
}

export interface CheckedTool {
  name: string;
  /** As OpenAI's API has it. */
  definition: Record<string, unknown>;
  /** What the model is told. Throws what `run` throws, and for arguments that are none. */
  run: ((call: ToolCall, signal: AbortSignal | undefined) => Promise<string>) | undefined;
}

export function checkTools(value: unknown, option: string): CheckedTool[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw invalidOption(option, value, "an array of tools");
  const tools = value.map((tool: unknown, index) => checkTool(tool, `${option}[${index}]`));
  const names = tools.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw invalidOption(option, twice, "tools of different names");
  return tools;
}

function checkTool(value: unknown, option: string): CheckedTool {
  const read = new OptionReader(value, ["name", "description", "parameters", "run"], `${option}.`);
  const name = read.string("name", "");
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(name))
    throw invalidOption(`${option}.name`, name, "1 to 64 letters, digits, _ and -");
  const run = read.callback("run") as Tool["run"] as ((args: unknown, context: ToolContext) => unknown) | undefined;
  const given = read.raw("parameters") ?? { type: "object", properties: {} };
  const { json, validate } = checkSchema(given, `${option}.parameters`);
  if (typeof json !== "object" || json === null || (json as { type?: unknown }).type !== "object")
    throw invalidOption(`${option}.parameters`, given, 'a JSON Schema of the type "object"');
  if (depthOf(json, MAX_DEPTH) >= MAX_DEPTH)
    throw invalidOption(`${option}.parameters`, given, `a schema of at most ${MAX_DEPTH} levels`);
  const definition = { name, description: read.string("description", ""), parameters: json };
  return {
    name,
    definition: { type: "function", function: definition },
    run:
      run &&
      (async (call, signal) => {
        const checked = await validate(call.arguments);
        if ("wrong" in checked) throw wrongArguments(name, checked.wrong);
        if (typeof checked.value !== "object" || checked.value === null)
          throw wrongArguments(name, "they are no JSON object");
        const result = await run(checked.value, { call, signal });
        return typeof result === "string" ? result : result === undefined ? "" : JSON.stringify(result);
      }),
  };
}

function wrongArguments(name: string, wrong: string): ColdstartError {
  return new ColdstartError("INVALID_OPTION", `The arguments for ${name} do not fit its parameters: ${wrong}.`);
}

/** Levels of a value, `most` at most. */
function depthOf(value: unknown, most: number): number {
  if (most === 0 || typeof value !== "object" || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map((inner) => depthOf(inner, most - 1)));
}
