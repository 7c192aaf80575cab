// Quantized models kept as files, so that the next load need not quantize again.

import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import path from "node:path";
import { unwritable } from "../atomic-file.js";
import type { CheckedLoad } from "../check-load.js";
import { ColdstartError } from "../errors.js";
import { fingerprint } from "../fingerprint.js";
import { inspectGguf } from "../gguf/inspect-gguf.js";
import type { NativeRecipe } from "../native.js";
import { version } from "../version.js";
import { quantize } from "./quantize-model.js";

/** Quantizing takes this share of the time, by and large. */
const SHARE = 0.9;

/** The same load from the quantized file, which is made if there is none; as it was where no cache is wanted. */
export async function fromQuantizeCache(checked: CheckedLoad): Promise<CheckedLoad> {
  const { native, quantizeCache: folder, onProgress } = checked;
  const { quantize: recipe, ...plain } = native;
  if (folder === undefined || recipe === undefined) return checked;
  const file = path.join(folder, await fileName(native.path, recipe));
  if (!existsSync(file)) {
    try {
      await makeFolder(folder);
      await quantize(native.path, file, recipe, {
        threads: native.threads,
        signal: checked.signal,
        onProgress: onProgress && ((fraction) => onProgress(SHARE * fraction)),
      });
    } catch (error) {
      if (!isUnwritable(error) || checked.wishes.strict) throw error;
      const note = `What was quantized is not kept: ${error.message}`;
      return { ...checked, notes: [...checked.notes, note] };
    }
    return {
      ...checked,
      native: { ...plain, path: file },
      onProgress: onProgress && ((fraction) => onProgress(SHARE + (1 - SHARE) * fraction)),
    };
  }
  return { ...checked, native: { ...plain, path: file } };
}

/** Of the source, of the recipe with what is in its importance matrix, and of the release that wrote the file. */
async function fileName(source: string, recipe: NativeRecipe): Promise<string> {
  const { dataOffset } = await inspectGguf(source, { arrayLimit: 0 });
  const hash = createHash("sha256")
    .update(await fingerprint(source, dataOffset, { ...recipe, importanceMatrix: "" }))
    .update(version().llamaCpp);
  if (recipe.importanceMatrix !== "") {
    hash.update(await readMatrix(recipe.importanceMatrix));
  }
  const name = path.basename(source, ".gguf").replace(/-00001-of-\d{5}$/, "");
  return `${name}.${recipe.type}.${hash.digest("hex").slice(0, 16)}.gguf`;
}

async function readMatrix(file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (cause) {
    throw new ColdstartError("MODEL_NOT_FOUND", `The importance matrix cannot be read: ${(cause as Error).message}.`, {
      remedy: "Give the path of one that computeImportance() made.",
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
