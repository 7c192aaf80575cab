import { randomBytes } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import path from "node:path";
import { ColdstartError } from "./errors.js";

/**
 * Files that appear complete or not at all. `write` gets other names in the same folders, to make new files there; when it is
 * done they are written out to the disk and get their own names, one after the other. When anything fails, what was begun
 * is removed and what was there before is as it was. Throws `WRITE_FAILED`, and what `write` throws.
 */
export async function writeAtomically<T>(
  files: readonly string[],
  write: (partial: string[]) => Promise<T>,
): Promise<T> {
  const tag = randomBytes(6).toString("hex");
  const partial = files.map((file) => path.join(path.dirname(file), `.${path.basename(file)}.${tag}.partial`));
  try {
    const result = await write(partial);
    for (const [i, file] of files.entries()) {
      const from = partial[i] ?? "";
      await sync(from);
      await rename(from, file);
    }
    return result;
  } catch (error) {
    await Promise.all(partial.map((file) => rm(file, { force: true })));
    throw error instanceof Error && "syscall" in error ? unwritable(files[0] ?? "", error) : error;
  }
}

async function sync(file: string): Promise<void> {
  const handle = await open(file, "r+");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** What the system's refusal becomes. */
export function unwritable(file: string, error: Error): ColdstartError {
  return new ColdstartError("WRITE_FAILED", `${file} cannot be written: ${error.message}.`, {
    remedy: "Check the folder, its permissions, and the room on its disk.",
    details: { path: file },
    cause: error,
  });
}
