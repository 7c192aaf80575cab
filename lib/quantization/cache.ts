// Quantized models kept as files, so that the next load need not quantize again.

import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import path from "node:path";
import { unwritable } from "../atomic-file.js";
import { ColdstartError } from "../errors.js";
import { fingerprint } from "../fingerprint.js";
import { toWatch } from "../gguf/watch.js";
import type { ModelSource, OpenedLoad } from "../model-source.js";
import type { NativeRecipe } from "../native.js";
import { version } from "../version.js";
import { quantize } from "./quantize-model.js";

/** Quantizing takes this share of the time, by and large. */
const SHARE = 0.9;

/** The same load from the quantized file, which is made if there is none. */
export async function fromQuantizeCache(
  checked: OpenedLoad,
  folder: string,
  recipe: NativeRecipe,
): Promise<OpenedLoad> {
  const { onProgress, signal, wishes, notes, source } = checked;
  const options = { ...checked.native, streamed: false };
  delete options.quantize; // It is done.
  const file = path.join(folder, await fileName(source, recipe));
  const cached = { ...checked, source: { path: file }, native: { ...options, path: file } };
  if (existsSync(file)) return cached;
  const part = (from: number, to: number) =>
    onProgress && ((fraction: number) => onProgress(from + (to - from) * fraction));
  try {
    await makeFolder(folder);
    const watch = toWatch(part(0, SHARE), signal, "Loading");
    await quantize(source, file, recipe, { threads: options.threads, watch });
  } catch (error) {
    if (!isUnwritable(error) || wishes.strict) throw error;
    return { ...checked, notes: [...notes, `What was quantized is not kept: ${error.message}`] };
  }
  return { ...cached, onProgress: part(SHARE, 1) };
}

/** Of the source, of the recipe with what is in its importance matrix, and of the release that wrote the file. */
async function fileName(source: ModelSource, recipe: NativeRecipe): Promise<string> {
  const hash = createHash("sha256").update(version().llamaCpp);
  hash.update(await fingerprint(source, { quantize: { ...recipe, importanceMatrix: "" } }));
  if (recipe.importanceMatrix !== "") hash.update(await readMatrix(recipe.importanceMatrix));
  const name = path.basename(source.path, ".gguf").replace(/-00001-of-\d{5}$/, "");
  return `${name}.${recipe.type}.${hash.digest("hex").slice(0, 16)}.gguf`;
}

async function readMatrix(file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (cause) {
    throw new ColdstartError("MODEL_NOT_FOUND", `The importance matrix cannot be read: ${(cause as Error).message}.`, {
      remedy: "Give the path of one that llama-imatrix made.",
      details: { path: file },
      cause,
    });
  }
}

async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
  } catch (error) {
    throw unwritable(folder, error as Error);
  }
}

function isUnwritable(error: unknown): error is ColdstartError {
  return error instanceof ColdstartError && error.code === "WRITE_FAILED";
}
