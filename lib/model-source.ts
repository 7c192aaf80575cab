// Where a model comes from: GGUF files, or a folder in Hugging Face's layout.

import { stat } from "node:fs/promises";
import { join } from "node:path";
import { AUTO_PROJECTOR, type CheckedLoad } from "./check-load.js";
import { readFolder } from "./huggingface/read-folder.js";
import { findProjector } from "./mmproj.js";
import type { NativeCheckpoint } from "./native.js";
import { invalidOption } from "./options.js";

export interface ModelSource {
  /** Of the file, of the first one if there are several, or of the folder. */
  path: string;
  /** What is in a folder. */
  checkpoint?: NativeCheckpoint;
  /** What one may not expect of that. */
  notes?: string[];
}

/** A load whose source is known. */
export interface OpenedLoad extends CheckedLoad {
  source: ModelSource;
}

/** Reads what a folder with a config.json says of its model; of files nothing. Rejects as `readFolder()`. */
export async function openSource(path: string): Promise<ModelSource> {
  const isModel = await stat(join(path, "config.json")).then(
    (found) => found.isFile(),
    () => false, // Whoever reads it as a file says what is wrong.
  );
  if (!isModel) return { path };
  const { checkpoint, notes } = await readFolder(path, "auto");
  return { path, checkpoint, notes: notes.rounded };
}

/** The weights of a folder are converted on their way into memory. */
export async function openLoad(given: CheckedLoad): Promise<OpenedLoad> {
  const checked = await withProjector(given);
  const { loadMode, path } = checked.native;
  const source = await openSource(path);
  if (source.checkpoint === undefined) return { ...checked, source };
  if (loadMode === "mmap" || loadMode === "direct") {
    throw invalidOption(
      "loadMode",
      loadMode,
      '"auto" or "copy" with a folder: no weights stay as they are in its files',
    );
  }
  const notes = [...checked.notes, ...(source.notes ?? [])];
  return { ...checked, source, notes, native: { ...checked.native, streamed: true } };
}

/** Finds the projector that belongs to the model, where that is asked for. */
async function withProjector(checked: CheckedLoad): Promise<CheckedLoad> {
  const { native, notes } = checked;
  if (native.projector !== AUTO_PROJECTOR) return checked;
  const projector = await findProjector(native.path);
  if (projector !== undefined) return { ...checked, native: { ...native, projector } };
  const note = `There is no projector (mmproj) beside ${native.path}: the model reads no images and no recordings.`;
  return { ...checked, native: { ...native, projector: "" }, notes: [...notes, note] };
}

/** As the addon's Conversion takes it. */
export const toConvert = ({ path, checkpoint }: ModelSource): string | NativeCheckpoint => checkpoint ?? path;

/** As planners take it. */
export const toPlan = ({ path, checkpoint }: ModelSource): string | Uint8Array[] =>
  checkpoint === undefined ? path : [checkpoint.header];
