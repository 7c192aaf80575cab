// Values of metadata: what a user gives, checked, with the type it has in the file.

import type { MetadataScalar, MetadataType } from "../native.js";
import { invalidOption, OptionReader, show } from "../options.js";
import type { Entry } from "./encode.js";

/**
 * A value for `editMetadata()`. Plain ones get the type that the key has; those of new keys the usual one: integers `"uint32"`,
 * or what they need, fractions `"float32"`. Objects say their type.
 */
export type MetadataInput =
  | MetadataScalar
  | readonly MetadataScalar[]
  | { type: MetadataType; value: MetadataScalar }
  | { elementType: MetadataType; values: readonly MetadataScalar[] };

/** Of an entry: of an array, that of its elements. */
export interface ValueType {
  type: MetadataType;
  isArray: boolean;
}

const INTEGERS: Readonly<Partial<Record<MetadataType, readonly [min: bigint, max: bigint]>>> = {
  uint8: [0n, 2n ** 8n - 1n],
  int8: [-(2n ** 7n), 2n ** 7n - 1n],
  uint16: [0n, 2n ** 16n - 1n],
  int16: [-(2n ** 15n), 2n ** 15n - 1n],
  uint32: [0n, 2n ** 32n - 1n],
  int32: [-(2n ** 31n), 2n ** 31n - 1n],
  uint64: [0n, 2n ** 64n - 1n],
  int64: [-(2n ** 63n), 2n ** 63n - 1n],
};

export const METADATA_TYPES = [
  "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64", "boolean", "string",
] as const satisfies readonly MetadataType[]; // prettier-ignore

export const nameOf = ({ type, isArray }: ValueType): string => (isArray ? `an array of ${type}` : type);

/**
 * The entry for a value that a user gives.
 *
 * @param name of the option, for messages
 * @param known what the key is in the file
 */
export function toEntry(name: string, key: string, input: unknown, known?: ValueType): Entry {
  const { type, value } = typed(name, input, known);
  if (!type.isArray) return { key, type: type.type, value: checkScalar(name, value, type.type) };
  if (!Array.isArray(value)) throw invalidOption(name, value, nameOf(type));
  const values = value.map((element, i) => checkScalar(`${name}[${i}]`, element, type.type));
  return { key, type: "array", of: type.type, values };
}

function typed(name: string, input: unknown, known: ValueType | undefined): { type: ValueType; value: unknown } {
  if (typeof input === "object" && input !== null && !Array.isArray(input)) {
    if ("elementType" in input) {
      const read = new OptionReader(input, ["elementType", "values", "length"], `${name}.`);
      const type = read.choice("elementType", METADATA_TYPES, "string");
      return { type: { type, isArray: true }, value: read.raw("values") };
    }
    const read = new OptionReader(input, ["type", "value"], `${name}.`);
    if (read.raw("type") === undefined)
      throw invalidOption(`${name}.type`, undefined, `one of ${METADATA_TYPES.join(", ")}`);
    return { type: { type: read.choice("type", METADATA_TYPES, "string"), isArray: false }, value: read.raw("value") };
  }
  if (known) return { type: known, value: input };
  if (!Array.isArray(input)) return { type: { type: usualType(name, [input]), isArray: false }, value: input };
  if (input.length === 0) throw invalidOption(name, input, 'of a type: { elementType: "string", values: [] }');
  return { type: { type: usualType(name, input), isArray: true }, value: input };
}

/** What all of these are written as by most programs. */
function usualType(name: string, values: readonly unknown[]): MetadataType {
  const all = (kind: string) => values.every((value) => typeof value === kind);
  if (all("string")) return "string";
  if (all("boolean")) return "boolean";
  if (values.every((value) => typeof value === "bigint" || (typeof value === "number" && Number.isInteger(value)))) {
    const integers = values.map((value) => BigInt(value as number | bigint));
    const fits = (["uint32", "int32", "uint64", "int64"] as const).find((type) =>
      integers.every((value) => isWithin(value, type)),
    );
    if (fits) return fits;
  } else if (all("number")) {
    return "float32";
  }
  throw invalidOption(
    name,
    values.length === 1 ? values[0] : values,
    "text, a number, a boolean, or an array of one of these",
  );
}

function isWithin(value: bigint, type: MetadataType): boolean {
  const range = INTEGERS[type];
  return range !== undefined && value >= range[0] && value <= range[1];
}

function checkScalar(name: string, value: unknown, type: MetadataType): MetadataScalar {
  if (type === "string" || type === "boolean") {
    if (typeof value !== type) throw invalidOption(name, value, type === "string" ? "text" : "true or false");
    return value as MetadataScalar;
  }
  const range = INTEGERS[type];
  if (range === undefined) {
    const isLost = type === "float32" && Number.isFinite(value) && !Number.isFinite(Math.fround(value as number));
    if (typeof value !== "number" || isLost) throw invalidOption(name, value, `a number that ${type} holds`);
    return value;
  }
  const isInteger = typeof value === "bigint" || Number.isSafeInteger(value);
  if (!isInteger || !isWithin(BigInt(value as number | bigint), type))
    throw invalidOption(name, value, `a whole number from ${range[0]} to ${range[1]} (${type})`);
  return value as MetadataScalar;
}

/** A value of the command line. Without a type it is what it looks like. Throws `INVALID_OPTION`. */
export function parseValue(name: string, text: string, type: ValueType | undefined): MetadataInput {
  if (type === undefined) {
    if (/^\s*\[/.test(text)) return parseArray(name, text);
    return looksLike(text);
  }
  if (type.isArray) return { elementType: type.type, values: parseArray(name, text) };
  return { type: type.type, value: parseScalar(name, text, type.type) };
}

function looksLike(text: string): MetadataScalar {
  if (text === "true" || text === "false") return text === "true";
  if (/^[+-]?\d+$/.test(text)) return toInteger(text);
  return text.trim() !== "" && /^[+-]?[\d.]/.test(text) && Number.isFinite(Number(text)) ? Number(text) : text;
}

function toInteger(text: string): number | bigint {
  return Number.isSafeInteger(Number(text)) ? Number(text) : BigInt(text);
}

function parseScalar(name: string, text: string, type: MetadataType): MetadataScalar {
  if (type === "string") return text;
  if (type === "boolean") {
    if (text !== "true" && text !== "false") throw invalidOption(name, text, "true or false");
    return text === "true";
  }
  const number = /^[+-]?\d+$/.test(text) ? toInteger(text) : Number(text);
  if (text.trim() === "" || Number.isNaN(number)) throw invalidOption(name, text, `a number (${type})`);
  return number;
}

function parseArray(name: string, text: string): MetadataScalar[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    parsed = undefined;
  }
  const isScalar = (value: unknown) => ["string", "number", "boolean"].includes(typeof value);
  if (Array.isArray(parsed) && parsed.every(isScalar)) return parsed as MetadataScalar[];
  throw invalidOption(name, text, `a JSON array of texts, numbers or booleans, not ${show(parsed)}`);
}
