// The option `responseFormat` of generate(): made a grammar.

import { native } from "../native.js";
import { invalidOption, OptionReader } from "../options.js";
import { followableSchema, type JsonSchema } from "./json-schema.js";

/**
 * The answer is JSON, of any kind or as a schema says (JSON Schema, draft 2020-12): no token is taken that would make it
 * something else. What a schema says and a grammar cannot follow is an `INVALID_OPTION` that names it.
 */
export interface ResponseFormat {
  type: "json";
  /** A schema, or what can tell one as the Standard JSON Schema interface says (Zod, Valibot, ArkType). Default: any object. */
  schema?: JsonSchema | StandardJsonSchema;
}

/** https://standardschema.dev/json-schema */
export interface StandardJsonSchema {
  "~standard": { jsonSchema: { output: (options: { target: "draft-2020-12" }) => Record<string, unknown> } };
}

/** The grammar, or "" without the option. Throws `INVALID_OPTION`. */
export function grammarOf(value: unknown, grammar: string): string {
  if (value === undefined) return grammar;
  const read = new OptionReader(value, ["type", "schema"], "responseFormat.");
  read.choice("type", ["json"] as const, "json");
  if (grammar !== "") throw invalidOption("responseFormat", value, "left out with grammar");
  const schema = toSchema(read.raw("schema") ?? { type: "object" });
  return native().grammarOfSchema(followableSchema(schema, "responseFormat.schema"));
}

function toSchema(value: unknown): unknown {
  if (typeof value !== "object" || value === null || !("~standard" in value)) return value;
  const { jsonSchema } = (value as Partial<StandardJsonSchema>)["~standard"] ?? {};
  if (typeof jsonSchema?.output === "function") return jsonSchema.output({ target: "draft-2020-12" });
  const expected =
    "a JSON Schema, or a schema that can tell one (~standard.jsonSchema); of Zod, z.toJSONSchema(schema)";
  throw invalidOption("responseFormat.schema", value, expected);
}
