// Schemas as users give them: JSON Schema, or an object of a library that can tell one.

import { ColdstartError } from "../errors.js";
import { invalidOption } from "../options.js";
import type { JsonSchema } from "./json-schema.js";

/**
 * What Zod, Valibot, ArkType and others make, as https://standardschema.dev/json-schema describes it: what is valid is generated,
 * and what came is validated by the library itself and has its type.
 */
export interface StandardJsonSchema<T = unknown> {
  "~standard": {
    readonly jsonSchema: { input: (options: { target: "draft-2020-12" }) => Record<string, unknown> };
    readonly validate?: (value: unknown) => StandardResult<T> | Promise<StandardResult<T>>;
    readonly types?: { readonly output: T } | undefined;
  };
}

/** What validation says. */
export type StandardResult<T> =
  | { readonly value: T; readonly issues?: undefined }
  | { readonly issues: readonly { readonly message: string; readonly path?: readonly unknown[] | undefined }[] };

/** A schema of either kind. */
export type Schema<T = unknown> = JsonSchema | StandardJsonSchema<T>;

export interface CheckedSchema {
  /** Draft 2020-12. */
  json: unknown;
  /** The value as the library has it, or what is wrong with it, a sentence. */
  validate: (value: unknown) => Promise<{ value: unknown } | { wrong: string }>;
}

export function checkSchema(value: unknown, option: string): CheckedSchema {
  if (typeof value !== "object" || value === null || !("~standard" in value))
    return { json: value, validate: (answer) => Promise.resolve({ value: answer }) };
  const { jsonSchema, validate } = (value as Partial<StandardJsonSchema>)["~standard"] ?? {};
  if (typeof jsonSchema?.input !== "function") {
    const expected = "a JSON Schema, or a schema that can tell one (~standard.jsonSchema; Zod from 4.2 on)";
    throw invalidOption(option, value, expected);
  }
  const json = jsonSchema.input({ target: "draft-2020-12" });
  return {
    json,
    validate: async (answer) => {
      const result = await validate?.(answer);
      if (result === undefined) return { value: answer };
      if (result.issues === undefined) return { value: result.value };
      return {
        wrong: result.issues.map(({ message, path }) => [...(path ?? []).map(segment), message].join(": ")).join("; "),
      };
    },
  };
}

function segment(key: unknown): string {
  return String(typeof key === "object" && key !== null && "key" in key ? key.key : key);
}

/** The answer as a value. Throws `INCOMPLETE_ANSWER`. */
export async function readJson(
  { text, finishReason, completionTokens }: { text: string; finishReason: string; completionTokens: number },
  validate: CheckedSchema["validate"] | undefined,
): Promise<unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const what = `The answer of ${completionTokens} tokens is no whole JSON (finishReason ${finishReason}).`;
    throw new ColdstartError("INCOMPLETE_ANSWER", what, {
      remedy:
        finishReason === "length" ? "Give more maxTokens." : "Look at the text in details, and set responseFormat.",
      details: { text, finishReason },
      cause,
    });
  }
  const checked = (await validate?.(value)) ?? { value };
  if ("value" in checked) return checked.value;
  throw new ColdstartError("INCOMPLETE_ANSWER", `The answer is JSON that the schema does not take: ${checked.wrong}.`, {
    remedy: "Say it in the schema itself instead of in a refinement, or ask again.",
    details: { text, finishReason },
  });
}
