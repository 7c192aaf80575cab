// Where models are written to.

import { chmod, stat } from "node:fs/promises";
import path from "node:path";
import { writeAtomically } from "../atomic-file.js";
import { native } from "../native.js";
import { invalidOption } from "../options.js";
import type { Watch } from "./watch.js";
import { PieceWriter, totalOf, type Piece } from "./write.js";

/** A file that was written, or would be. */
export interface WrittenFile {
  path: string;
  /** Of the whole file. */
  bytes: number;
  tensors: number;
}

/** As llama.cpp names the parts of a model: `<prefix>-00001-of-00003.gguf`. */
export function partPaths(prefix: string, count: number): string[] {
  const number = (i: number) => String(i).padStart(5, "0");
  return Array.from({ length: count }, (_, i) => `${prefix}-${number(i + 1)}-of-${number(count)}.gguf`);
}

/** The output must not be a folder, nor replace what is read from. Throws `INVALID_OPTION`. */
export async function checkApart(inputs: readonly string[], outputs: readonly string[]): Promise<void> {
  const identify = async (file: string) => {
    const found = await stat(file, { bigint: true }).catch(() => undefined);
    return found ? `${found.dev}:${found.ino}` : path.resolve(file);
  };
  const sources = new Set(await Promise.all(inputs.map(identify)));
  for (const output of outputs) {
    if ((await stat(output).catch(() => undefined))?.isDirectory())
      throw invalidOption("output", output, "a file, and not a folder");
    if (sources.has(await identify(output)))
      throw invalidOption("output", output, "another file than those of the input");
  }
}

/**
 * Writes files that appear complete or not at all; each is read back before it gets its name.
 * @param mode of the files; default: as the system makes new ones
 * Throws `WRITE_FAILED`, `LOAD_FAILED`, `INVALID_GGUF`, `ABORTED`.
 */
export async function writeModel(
  files: readonly { path: string; pieces: readonly Piece[] }[],
  { onProgress, checkAborted }: Watch,
  mode?: number,
): Promise<void> {
  const total = files.reduce((sum, { pieces }) => sum + totalOf(pieces), 0);
  const writer = new PieceWriter(total, onProgress, checkAborted);
  await writeAtomically(
    files.map((file) => file.path),
    async (partial) => {
      for (const [i, { pieces }] of files.entries()) {
        await writer.write(partial[i] ?? "", pieces);
        await native().ggufLayout(partial[i] ?? "");
        if (mode !== undefined) await chmod(partial[i] ?? "", mode);
      }
      checkAborted();
    },
  );
}
