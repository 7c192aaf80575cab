// Checks what users pass in. Every refusal is an INVALID_OPTION that says the option, its value and what it may be.

import { fileURLToPath } from "node:url";
import { ColdstartError } from "./errors.js";

/** Shows a value in a message: short, on one line. */
export function show(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return "a function";
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === "object" && value !== null) return "an object";
  return String(value);
}

export function invalidOption(name: string, value: unknown, expected: string): ColdstartError {
  return new ColdstartError("INVALID_OPTION", `${name} is ${show(value)}.`, {
    remedy: `It must be ${expected}.`,
    details: { option: name, value, expected },
  });
}

/** A path, from what a user may pass as one. Throws `INVALID_OPTION`. */
export function toPath(path: unknown, option = "path", expected = "the path of a GGUF file, or a file: URL"): string {
  if (path instanceof URL && path.protocol === "file:") return fileURLToPath(path);
  if (typeof path !== "string" || path === "" || path.includes("\0")) throw invalidOption(option, path, expected);
  return path;
}

/** How far two words are apart: single-letter insertions, deletions, replacements (Levenshtein). */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/** Of the names that there are, the one that was meant, if one is near. */
export function nearestTo(name: string, known: readonly string[]): string | undefined {
  const nearest = known
    .map((candidate) => ({ candidate, apart: distance(name.toLowerCase(), candidate.toLowerCase()) }))
    .sort((a, b) => a.apart - b.apart)[0];
  return nearest && nearest.apart <= 3 ? nearest.candidate : undefined;
}

interface NumberRange {
  min: number;
  max?: number;
  /** Exclude `min` itself. */
  above?: boolean;
  integer?: boolean;
}

function describe({ min, max, above, integer }: NumberRange): string {
  const kind = integer ? "a whole number" : "a finite number";
  if (max === undefined) return min === -Infinity ? kind : `${kind} ${above ? "above" : "of at least"} ${min}`;
  return above ? `${kind} above ${min} and at most ${max}` : `${kind} from ${min} to ${max}`;
}

/**
 * Reads the options of one object, by name, with defaults for those left out (or `undefined`).
 * `known` are all the names it may have; any other is refused, with the nearest known one in the message.
 */
export class OptionReader {
  readonly #object: Record<string, unknown>;
  readonly #prefix: string;

  constructor(options: unknown, known: readonly string[], prefix = "") {
    if (typeof options !== "object" || options === null || Array.isArray(options)) {
      throw invalidOption(prefix === "" ? "options" : prefix.slice(0, -1), options, "an object");
    }
    for (const name of Object.keys(options)) {
      if (known.includes(name)) continue;
      const nearest = nearestTo(name, known);
      const hint = nearest === undefined ? "" : `Did you mean ${prefix}${nearest}? `;
      throw new ColdstartError("INVALID_OPTION", `There is no option ${prefix}${name}.`, {
        remedy: `${hint}Known: ${known.join(", ")}.`,
        details: { option: prefix + name, known },
      });
    }
    this.#object = options as Record<string, unknown>;
    this.#prefix = prefix;
  }

  #get(name: string): unknown {
    return this.#object[name];
  }

  number<T>(name: string, range: NumberRange, fallback: T): number | T {
    const value = this.#get(name);
    if (value === undefined) return fallback;
    const { min, max = Infinity, above, integer } = range;
    const ok =
      typeof value === "number" &&
      Number.isFinite(value) &&
      (above ? value > min : value >= min) &&
      value <= max &&
      (!integer || Number.isInteger(value));
    if (!ok) throw invalidOption(this.#prefix + name, value, describe(range));
    return value;
  }

  integer<T>(name: string, min: number, max: number, fallback: T): number | T {
    return this.number(name, { min, max, integer: true }, fallback);
  }

  boolean(name: string, fallback: boolean): boolean {
    const value = this.#get(name);
    if (value === undefined) return fallback;
    if (typeof value !== "boolean") throw invalidOption(this.#prefix + name, value, "true or false");
    return value;
  }

  string(name: string, fallback: string): string {
    const value = this.#get(name);
    if (value === undefined) return fallback;
    if (typeof value !== "string") throw invalidOption(this.#prefix + name, value, "a string");
    return value;
  }

  choice<T extends string | number | boolean>(name: string, choices: readonly T[], fallback: T): T {
    const value = this.#get(name);
    if (value === undefined) return fallback;
    if (!choices.includes(value as T)) {
      throw invalidOption(this.#prefix + name, value, `one of ${choices.map((choice) => show(choice)).join(", ")}`);
    }
    return value as T;
  }

  /** A string or an array of strings, none of them empty. */
  strings(name: string, fallback: string[]): string[] {
    const value = this.#get(name);
    if (value === undefined) return fallback;
    const list: unknown[] = Array.isArray(value) ? value : [value];
    for (const item of list) {
      if (typeof item !== "string" || item === "")
        throw invalidOption(this.#prefix + name, item, "a string with at least one character, or an array of such");
    }
    return list as string[];
  }

  /** An object of strings. */
  texts(name: string): Record<string, string> {
    const value = this.#get(name) ?? {};
    const isTexts =
      typeof value === "object" &&
      !Array.isArray(value) &&
      Object.values(value).every((text) => typeof text === "string");
    if (!isTexts) throw invalidOption(this.#prefix + name, value, "an object of strings");
    return value as Record<string, string>;
  }

  /** The source of a regular expression, which has no flags but what it is about (`u`), or its text. */
  pattern(name: string): string {
    const value = this.#get(name);
    const source = value instanceof RegExp && ["", "u"].includes(value.flags) ? value.source : value;
    if (typeof source === "string" && source !== "") return source;
    const shown = value instanceof RegExp ? String(value) : value;
    throw invalidOption(this.#prefix + name, shown, "a regular expression without flags, or its text");
  }

  /** Whatever is there, unchecked. */
  raw(name: string): unknown {
    return this.#get(name);
  }

  callback(name: string): ((...args: never[]) => void) | undefined {
    const value = this.#get(name);
    if (value !== undefined && typeof value !== "function")
      throw invalidOption(this.#prefix + name, value, "a function");
    return value as ((...args: never[]) => void) | undefined;
  }

  signal(name = "signal"): AbortSignal | undefined {
    const value = this.#get(name);
    if (value !== undefined && !(value instanceof AbortSignal))
      throw invalidOption(this.#prefix + name, value, "an AbortSignal");
    return value;
  }

  /** The options of a nested object; empty when it is left out. */
  nested(name: string, known: readonly string[]): OptionReader {
    return new OptionReader(this.#get(name) ?? {}, known, `${this.#prefix}${name}.`);
  }
}
