// JSON files of a checkpoint, with their types checked: nothing in them is believed.

import { open } from "node:fs/promises";
import path from "node:path";
import { ColdstartError } from "../errors.js";
import { invalidCheckpoint } from "./errors.js";

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

const MIB = 2 ** 20;
/** The largest tokenizer.json known has 33 MB. */
const MAX_FILE = 256 * MIB;

/** A file's bytes; undefined when there is none of that name. */
export async function readOptional(folder: string, name: string): Promise<Buffer | undefined> {
  let handle;
  try {
    handle = await open(path.join(folder, name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw unreadable(path.join(folder, name), error);
  }
  try {
    const { size } = await handle.stat();
    if (size > MAX_FILE) {
      throw invalidCheckpoint(`${name} has ${size} bytes, and at most ${MAX_FILE} are read.`, { file: name, size });
    }
    return await handle.readFile();
  } catch (error) {
    throw error instanceof ColdstartError ? error : unreadable(path.join(folder, name), error);
  } finally {
    await handle.close();
  }
}

export function unreadable(file: string, error: unknown): ColdstartError {
  const { code } = error as NodeJS.ErrnoException;
  const [missing, folder] = [code === "ENOENT", code === "EISDIR"];
  const what = missing ? `There is no file ${file}.` : `${file} cannot be read: ${(error as Error).message}.`;
  return new ColdstartError(missing || folder ? "INVALID_CHECKPOINT" : "LOAD_FAILED", what, {
    remedy: missing ? "Download the whole folder again." : "Check the file and its permissions.",
    details: { path: file },
    cause: error,
  });
}

/** The text of a file that must be UTF-8; undefined when there is none of that name. */
export async function readOptionalText(folder: string, name: string): Promise<string | undefined> {
  const bytes = await readOptional(folder, name);
  return bytes && decodeUtf8(bytes, name);
}

export function decodeUtf8(bytes: Uint8Array, what: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw Object.assign(invalidCheckpoint(`${what} is not UTF-8 text.`, { file: what }), { cause });
  }
}

/** The object in a JSON file; undefined when there is none of that name. */
export async function readOptionalObject(folder: string, name: string): Promise<JsonObject | undefined> {
  const text = await readOptionalText(folder, name);
  return text === undefined ? undefined : new JsonObject(parseJson(text, name), name);
}

export function parseJson(text: string, name: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch (error) {
    throw invalidCheckpoint(`${name} is not JSON: ${(error as Error).message}.`, { file: name });
  }
}

/** The first key that an object anywhere in `text`, which is valid JSON, has twice. JSON.parse() keeps the last value. */
export function duplicateKey(text: string): string | undefined {
  const objects: (Set<string> | undefined)[] = [];
  // Strings, with the colon where they are keys, and what opens and closes objects and arrays.
  for (const [token, string, colon] of text.matchAll(/("(?:[^"\\]|\\.)*")(\s*:)?|[{}[\]]/gs)) {
    if (token === "{") objects.push(new Set());
    else if (token === "[") objects.push(undefined);
    else if (token === "}" || token === "]") objects.pop();
    else if (string !== undefined && colon !== undefined) {
      const key = JSON.parse(string) as string;
      const keys = objects.at(-1);
      if (keys?.has(key)) return key;
      keys?.add(key);
    }
  }
  return undefined;
}

type Kind = "number" | "string" | "boolean";

/** Reads fields of a JSON object by name. What has another type than it should is an INVALID_CHECKPOINT. */
export class JsonObject {
  readonly #values: Record<string, Json>;
  /** Where it is, for messages. */
  readonly where: string;

  constructor(value: Json | undefined, where: string) {
    if (typeof value !== "object" || value === null || Array.isArray(value))
      throw invalidCheckpoint(`${where} is not a JSON object.`, { file: where });
    this.#values = value;
    this.where = where;
  }

  keys(): string[] {
    return Object.keys(this.#values);
  }

  /** The value as it is; undefined when there is none, or it is null. */
  get(name: string): Json | undefined {
    return Object.hasOwn(this.#values, name) ? (this.#values[name] ?? undefined) : undefined;
  }

  #typed(name: string, kind: Kind): Json | undefined {
    const value = this.get(name);
    if (value !== undefined && typeof value !== kind) throw this.wrong(name, `must be a ${kind}`);
    return value;
  }

  wrong(name: string, expected: string): ColdstartError {
    const value = this.get(name);
    const shown = value === undefined ? "missing" : JSON.stringify(value).slice(0, 80);
    return invalidCheckpoint(`${name} of ${this.where} is ${shown}, and ${expected}.`, { file: this.where, key: name });
  }

  /** @param fallback when it is missing; without one it must be there */
  number(name: string, fallback?: number): number {
    const value = (this.#typed(name, "number") as number | undefined) ?? fallback;
    if (value === undefined) throw this.wrong(name, "must be a number");
    return value;
  }

  /** From 1 on, and of a size that a model's dimensions may have. */
  count(name: string, fallback?: number): number {
    const value = this.number(name, fallback);
    if (!Number.isInteger(value) || value < 1 || value >= 2 ** 31)
      throw this.wrong(name, "must be a whole number from 1 on");
    return value;
  }

  boolean(name: string, fallback: boolean): boolean {
    return (this.#typed(name, "boolean") as boolean | undefined) ?? fallback;
  }

  string(name: string): string | undefined {
    return this.#typed(name, "string") as string | undefined;
  }

  array(name: string): Json[] | undefined {
    const value = this.get(name);
    if (value !== undefined && !Array.isArray(value)) throw this.wrong(name, "must be an array");
    return value;
  }

  object(name: string): JsonObject | undefined {
    const value = this.get(name);
    return value === undefined ? undefined : new JsonObject(value, `${name} of ${this.where}`);
  }
}
