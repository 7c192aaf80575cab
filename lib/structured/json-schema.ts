// What a grammar can be made of: which JSON Schemas (draft 2020-12) llama.cpp's converter follows in all that they say. It leaves
// out what it does not know; here that is an error. Pure.

import { ColdstartError } from "../errors.js";

export type JsonSchema = boolean | { [keyword: string]: unknown };

type Schema = Record<string, unknown>;

/** Say nothing about what is valid. */
const ANNOTATIONS = [
  "$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples", "deprecated", "readOnly",
  "writeOnly", "contentMediaType", "contentEncoding",
]; // prettier-ignore

/** What each type may have beside them. */
const KEYWORDS: Readonly<Record<string, readonly string[]>> = {
  object: ["properties", "required", "additionalProperties", "propertyNames"],
  array: ["items", "prefixItems", "minItems", "maxItems"],
  string: ["pattern", "minLength", "maxLength", "format"],
  integer: ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"],
  number: [],
  boolean: [],
  null: [],
};
const FORMATS = ["date", "time", "date-time", "uuid"];
/** What a type is taken from when none is said. A value of another type would be valid, too, and is not generated. */
const TELLING: readonly [type: string, keywords: readonly string[]][] = [
  ["object", ["properties", "additionalProperties", "required"]],
  ["array", ["items", "prefixItems"]],
  ["string", ["pattern", "minLength", "maxLength"]],
];

/** llama.cpp's converter calls itself for each. */
const MAX_DEPTH = 200;

const DAY =
  "(((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01]))|((0[469]|11)-(0[1-9]|[12][0-9]|30))|(02-(0[1-9]|1[0-9]|2[0-8])))";
const TIME = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+\\-]([01][0-9]|2[0-3]):[0-5][0-9])";
/** llama.cpp's own of these have days that no month has. Here the 29th of February is never one. */
const DATES: Readonly<Record<string, string>> = {
  date: `^[0-9]{4}-${DAY}$`,
  "date-time": `^[0-9]{4}-${DAY}T${TIME}$`,
};

/** The schema as llama.cpp's converter takes it, as JSON. Throws `INVALID_OPTION` that names what cannot be followed, and where. */
export function followableSchema(root: unknown, option: string): string {
  const checker = new Checker(root, option);
  checker.check(root, "#");
  return JSON.stringify(root, (_, value: unknown) => checker.replacements.get(value) ?? value);
}

class Checker {
  readonly #root: unknown;
  readonly #option: string;
  readonly #followed = new Set<string>();
  #depth = 0;
  /** Schemas that have to be said in other words. */
  readonly replacements = new Map<unknown, object>();

  constructor(root: unknown, option: string) {
    this.#root = root;
    this.#option = option;
  }

  check(value: unknown, path: string): void {
    if (++this.#depth > MAX_DEPTH)
      throw this.#refuse(path, "another schema within", `at most ${MAX_DEPTH} within each other`);
    this.#checkSchema(value, path);
    this.#depth--;
  }

  #checkSchema(value: unknown, path: string): void {
    if (!isObject(value)) {
      const expected = "a schema that is an object ({} for anything)";
      throw this.#refuse(path, JSON.stringify(value), expected);
    }
    const dialect = value["$schema"];
    if (dialect !== undefined && !/^"https?:\/\/json-schema\.org\//.test(JSON.stringify(dialect)))
      throw this.#refuse(`${path}/$schema`, JSON.stringify(dialect), "one of json-schema.org");
    const own = Object.keys(value).filter((key) => !ANNOTATIONS.includes(key) && !key.startsWith("x-"));
    const schema = Object.fromEntries(own.map((key) => [key, value[key]]));
    if ("$ref" in schema) {
      this.#checkReference(schema, path);
      return;
    }
    for (const key of ["anyOf", "oneOf"])
      if (key in schema) {
        this.#checkAlternatives(schema, key, path);
        return;
      }
    if ("const" in schema || "enum" in schema) {
      this.#checkValues(schema, path);
      return;
    }
    const types = this.#typesOf(schema, path);
    // All of a schema's keywords for the types that it may have.
    const known = ["type", ...types.flatMap((type) => KEYWORDS[type] ?? [])];
    for (const key of Object.keys(schema)) if (!known.includes(key)) throw this.#unknown(path, key, known);
    for (const type of types) this.#checkType(type, schema, path);
    if ("prefixItems" in schema) {
      const { items: _, minItems: __, maxItems: ___, ...rest } = value;
      this.replacements.set(value, rest);
    }
    const pattern = DATES[String(schema["format"])];
    if (pattern !== undefined && types.includes("string") && !("pattern" in schema))
      this.replacements.set(value, { type: schema["type"] ?? "string", pattern });
  }

  #typesOf(schema: Schema, path: string): string[] {
    const { type } = schema;
    if (type === undefined) {
      const told = TELLING.find(([, keywords]) => keywords.some((keyword) => keyword in schema));
      if (told) return [told[0]];
      const [other] = Object.keys(schema);
      if (other !== undefined) throw this.#unknown(path, other, ["type"]);
      return [];
    }
    const types: unknown[] = Array.isArray(type) ? type : [type];
    if (types.length > 0 && types.every((one) => typeof one === "string" && one in KEYWORDS)) return types as string[];
    throw this.#refuse(`${path}/type`, JSON.stringify(type), `one or several of ${Object.keys(KEYWORDS).join(", ")}`);
  }

  #checkType(type: string, schema: Schema, path: string): void {
    if (type === "object") this.#checkObject(schema, path);
    if (type === "array") this.#checkArray(schema, path);
    if (type === "string") this.#checkString(schema, path);
    if (type === "integer") this.#checkInteger(schema, path);
  }

  #checkObject({ properties, required, additionalProperties, propertyNames }: Schema, path: string): void {
    if (properties !== undefined && !isObject(properties))
      throw this.#refuse(`${path}/properties`, JSON.stringify(properties), "an object");
    for (const [name, property] of Object.entries(properties ?? {})) this.check(property, `${path}/properties/${name}`);
    if (additionalProperties !== undefined && typeof additionalProperties !== "boolean")
      this.check(additionalProperties, `${path}/additionalProperties`);
    // Any name is a string.
    const { type, ...more } = isObject(propertyNames) ? propertyNames : { type: "string" };
    if ((type ?? "string") !== "string" || Object.keys(more).length > 0)
      throw this.#refuse(`${path}/propertyNames`, JSON.stringify(propertyNames), '{ type: "string" }');
    const names: unknown = required ?? [];
    const absent: unknown = Array.isArray(names)
      ? (names as unknown[]).find((name) => !Object.hasOwn(properties ?? {}, String(name)))
      : names;
    if (absent !== undefined)
      throw this.#refuse(`${path}/required`, JSON.stringify(absent), "names of properties that are described");
  }

  #checkArray(schema: Schema, path: string): void {
    const { items, prefixItems, minItems, maxItems } = schema;
    if (prefixItems === undefined) {
      if (items !== undefined) this.check(items, `${path}/items`);
      for (const key of ["minItems", "maxItems"]) this.#checkCount(schema, key, path);
      if (Number(minItems ?? 0) > Number(maxItems ?? Infinity))
        throw this.#refuse(path, "no array", "minItems up to maxItems");
      return;
    }
    if (!Array.isArray(prefixItems) || prefixItems.length === 0)
      throw this.#refuse(`${path}/prefixItems`, JSON.stringify(prefixItems), "an array of schemas");
    // All of them are generated, and no more.
    const count = prefixItems.length;
    const allows = (items === undefined || items === false) && Number(minItems ?? 0) <= count;
    if (!allows || Number(maxItems ?? count) < count)
      throw this.#refuse(path, "prefixItems with others", `all of them, and no more: items: false, minItems: ${count}`);
    prefixItems.forEach((item: unknown, i) => this.check(item, `${path}/prefixItems/${i}`));
  }

  #checkString(schema: Schema, path: string): void {
    const { pattern, format } = schema;
    for (const key of ["minLength", "maxLength"]) this.#checkCount(schema, key, path);
    if (Number(schema["minLength"] ?? 0) > Number(schema["maxLength"] ?? Infinity))
      throw this.#refuse(path, "no string", "minLength up to maxLength");
    // Beside a pattern, a format is a remark: of the two it is the pattern that draft 2020-12 asserts.
    if (pattern === undefined && format !== undefined && !FORMATS.includes(format as string))
      throw this.#refuse(`${path}/format`, JSON.stringify(format), `one of ${FORMATS.join(", ")}`);
    const hasForm = pattern !== undefined || format !== undefined;
    if (hasForm && ("minLength" in schema || "maxLength" in schema))
      throw this.#refuse(path, "a string with several of pattern, format and lengths", "one of them");
  }

  #checkInteger(schema: Schema, path: string): void {
    for (const key of KEYWORDS["integer"] ?? []) {
      if (key in schema && !Number.isSafeInteger(schema[key]))
        throw this.#refuse(`${path}/${key}`, JSON.stringify(schema[key]), "a whole number");
    }
    for (const [one, other] of [
      ["minimum", "exclusiveMinimum"],
      ["maximum", "exclusiveMaximum"],
    ] as const)
      // prettier-ignore
      if (one in schema && other in schema) throw this.#unknown(path, other, [one]);
    const least = Number(schema["minimum"] ?? Number(schema["exclusiveMinimum"] ?? -Infinity) + 1);
    const most = Number(schema["maximum"] ?? Number(schema["exclusiveMaximum"] ?? Infinity) - 1);
    if (least > most) throw this.#refuse(path, "no number", "a least up to a largest");
  }

  #checkCount(schema: Schema, key: string, path: string): void {
    const value = schema[key];
    if (value === undefined || (Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 31))
      return;
    throw this.#refuse(`${path}/${key}`, JSON.stringify(value), "a whole number from 0 on");
  }

  /** Of values that are given, all must be valid: the grammar has all of them. */
  #checkValues(schema: Schema, path: string): void {
    const key = "const" in schema ? "const" : "enum";
    const values = key === "const" ? [schema["const"]] : schema["enum"];
    if (!Array.isArray(values) || values.length === 0)
      throw this.#refuse(`${path}/enum`, JSON.stringify(values), "an array of values");
    for (const other of Object.keys(schema))
      if (![key, "type"].includes(other)) throw this.#unknown(path, other, [key]);
    if (!("type" in schema)) return;
    const types = this.#typesOf(schema, path);
    for (const value of values) {
      if (types.includes(typeOf(value)) || (typeOf(value) === "integer" && types.includes("number"))) continue;
      throw this.#refuse(`${path}/${key}`, JSON.stringify(value), `a value of the type ${types.join(" or ")}`);
    }
  }

  #checkAlternatives(schema: Schema, key: string, path: string): void {
    const alternatives = schema[key];
    if (!Array.isArray(alternatives) || alternatives.length === 0)
      throw this.#refuse(`${path}/${key}`, JSON.stringify(alternatives), "an array of schemas");
    for (const other of Object.keys(schema)) if (other !== key) throw this.#unknown(path, other, [key]);
    alternatives.forEach((one: unknown, i) => this.check(one, `${path}/${key}/${i}`));
    if (key === "oneOf" && !areDisjoint(alternatives))
      throw this.#refuse(
        `${path}/oneOf`,
        "alternatives that one value may fit several of",
        "anyOf, or alternatives of different types",
      );
  }

  #checkReference(schema: Schema, path: string): void {
    const { $ref: reference } = schema;
    for (const other of Object.keys(schema)) if (other !== "$ref") throw this.#unknown(path, other, ["$ref"]);
    if (typeof reference !== "string" || !reference.startsWith("#/"))
      throw this.#refuse(`${path}/$ref`, JSON.stringify(reference), "a reference within the schema, as #/$defs/name");
    if (this.#followed.has(reference)) return;
    this.#followed.add(reference);
    const target = reference
      .slice(2)
      .split("/")
      .reduce<unknown>(
        (at, name) => (isObject(at) || Array.isArray(at) ? (at as Schema)[name] : undefined),
        this.#root,
      );
    if (target === undefined) throw this.#refuse(`${path}/$ref`, reference, "the place of a schema");
    this.check(target, reference);
  }

  #unknown(path: string, key: string, known: readonly string[]): ColdstartError {
    return this.#refuse(
      path,
      `the keyword ${key}, which cannot be followed here`,
      `without it (known here: ${known.join(", ")})`,
    );
  }

  #refuse(path: string, found: string, expected: string): ColdstartError {
    return new ColdstartError("INVALID_OPTION", `${this.#option} has at ${path} ${found}.`, {
      remedy: `It must be ${expected}. What the schema still says can be checked afterwards.`,
      details: { option: this.#option, path },
    });
  }
}

function isObject(value: unknown): value is Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function typeOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return Number.isInteger(value) ? "integer" : typeof value;
}

/** What a value must be to fit: of a type, or of a type and this one. */
interface Kind {
  type: string;
  value?: string;
}

/** As far as types and constants say, also those of properties that all have. */
function areDisjoint(alternatives: readonly unknown[]): boolean {
  return alternatives.every((one, i) => alternatives.slice(i + 1).every((other) => isDisjoint(one, other)));
}

function isDisjoint(one: unknown, other: unknown): boolean {
  const [kinds, others] = [kindsOf(one), kindsOf(other)];
  const overlap = (a: Kind, b: Kind) =>
    a.type === b.type && (a.value === undefined || b.value === undefined || a.value === b.value);
  if (kinds && others && !kinds.some((a) => others.some((b) => overlap(a, b)))) return true;
  return (
    isObject(one) &&
    isObject(other) &&
    requiredOf(one).some(([name, schema]) =>
      requiredOf(other).some(([same, another]) => name === same && isDisjoint(schema, another)),
    )
  );
}

function requiredOf({ type, properties, required }: Schema): [name: string, schema: unknown][] {
  if (type !== "object" || !isObject(properties) || !Array.isArray(required)) return [];
  return Object.entries(properties).filter(([name]) => required.includes(name));
}

/** Undefined: not known. */
function kindsOf(schema: unknown): Kind[] | undefined {
  if (!isObject(schema)) return undefined;
  const general = (type: unknown) => (type === "integer" ? "number" : String(type));
  const values = "const" in schema ? [schema["const"]] : schema["enum"];
  if (Array.isArray(values))
    return values.map((value) => ({ type: general(typeOf(value)), value: JSON.stringify(value) }));
  const types: unknown[] = Array.isArray(schema["type"]) ? schema["type"] : [schema["type"]];
  return types.every((type) => typeof type === "string") ? types.map((type) => ({ type: general(type) })) : undefined;
}
