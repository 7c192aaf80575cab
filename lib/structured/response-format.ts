// The option `responseFormat`: made a grammar.

import { native } from "../native.js";
import { invalidOption, OptionReader } from "../options.js";
import { followableSchema } from "./json-schema.js";
import { checkSchema, type CheckedSchema, type Schema } from "./schema.js";

/**
 * What the answer is: no token is taken that would make it something else.
 *
 * - `"json"`: JSON as `schema` says (JSON Schema, draft 2020-12, or a schema of Zod and others); without it any object. What a schema
 *   says and a grammar cannot follow is an `INVALID_OPTION` that names it.
 * - `"regex"`: a text that the whole `pattern` matches, which is about code points (flag `u`). Lookarounds, references back and word
 *   boundaries cannot be followed.
 * - `"grammar"`: GBNF, as the option `grammar`.
 */
export type ResponseFormat<T = unknown> =
  | { type: "json"; schema?: Schema<T> }
  | { type: "regex"; pattern: string | RegExp }
  | { type: "grammar"; grammar: string };

export interface CheckedFormat {
  /** GBNF; empty: none. */
  grammar: string;
  /** JSON: what the grammar is of. */
  schema?: string;
  validate?: CheckedSchema["validate"];
}

/** Throws `INVALID_OPTION`. */
export function checkFormat(value: unknown, grammar: string): CheckedFormat {
  if (value === undefined) return { grammar };
  if (grammar !== "") throw invalidOption("responseFormat", value, "left out with grammar");
  const read = new OptionReader(value, ["type", "schema", "pattern", "grammar"], "responseFormat.");
  const type = read.choice("type", ["json", "regex", "grammar"] as const, "json");
  for (const [name, owner] of [
    ["schema", "json"],
    ["pattern", "regex"],
    ["grammar", "grammar"],
  ] as const) {
    const given = read.raw(name) !== undefined;
    if (given && owner !== type)
      throw invalidOption(`responseFormat.${name}`, read.raw(name), `left out with type "${type}"`);
    if (!given && owner === type && type !== "json") throw invalidOption(`responseFormat.${name}`, undefined, "given");
  }
  if (type === "grammar") return { grammar: read.string("grammar", "") };
  if (type === "regex") return { grammar: native().grammarOfPattern(read.pattern("pattern")) };
  const { json, validate } = checkSchema(read.raw("schema") ?? { type: "object" }, "responseFormat.schema");
  const schema = followableSchema(json, "responseFormat.schema");
  return { grammar: native().grammarOfSchema(schema), schema, validate };
}
