// Images and recordings in prompts and messages, checked and made what the engine takes.

import { resolve } from "node:path";
import type { NativeMedia } from "./native.js";
import { invalidOption, OptionReader, toPath } from "./options.js";

export interface TextPart {
  type: "text";
  text: string;
}

/** A picture: PNG, JPEG, BMP, GIF (the first image of it), TGA, PNM. Either `data` or `path`. */
export interface ImagePart {
  type: "image";
  /** The file's bytes, or these in base64. */
  data?: Uint8Array | string;
  /** Where the file is. */
  path?: string | URL;
}

/** A recording: WAV, MP3, FLAC. Either `data` or `path`. */
export interface AudioPart {
  type: "audio";
  /** The file's bytes, or these in base64. */
  data?: Uint8Array | string;
  /** Where the file is. */
  path?: string | URL;
}

export type MediaPart = ImagePart | AudioPart;
/** A part of what a user says. */
export type ContentPart = TextPart | MediaPart;

const TYPES = ["text", "image", "audio"] as const;

/** Throws `INVALID_OPTION`. */
export function checkPart(value: unknown, option: string): asserts value is ContentPart {
  const type = (value as Partial<ContentPart> | null | undefined)?.type;
  if (type === undefined || !TYPES.includes(type))
    throw invalidOption(`${option}.type`, type, '"text", "image" or "audio"');
  const read = new OptionReader(value, type === "text" ? ["type", "text"] : ["type", "data", "path"], `${option}.`);
  if (type === "text") {
    if (typeof read.raw("text") !== "string") throw invalidOption(`${option}.text`, read.raw("text"), "a string");
    return;
  }
  const [data, path] = [read.raw("data"), read.raw("path")];
  if ((data === undefined) === (path === undefined)) throw invalidOption(option, value, "with either data or path");
  if (path !== undefined) toPath(path, `${option}.path`, "a path, or a file: URL");
  else if (!(data instanceof Uint8Array) && !isBase64(data))
    throw invalidOption(`${option}.data`, data, "a Uint8Array, or base64");
}

/** Of a part that was checked. */
export function toNative({ type, data, path }: MediaPart): NativeMedia {
  if (path !== undefined) return { type, path: resolve(toPath(path)) };
  return { type, data: typeof data === "string" ? Buffer.from(data, "base64") : (data as Uint8Array) };
}

function isBase64(value: unknown): value is string {
  return typeof value === "string" && value.length % 4 === 0 && /^[A-Za-z0-9+/]+={0,2}$/.test(value);
}
