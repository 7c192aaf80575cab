// The files of a model, and where everything lies in them.

import { ColdstartError } from "../errors.js";
import { native, type GgufHeader, type GgufLayout } from "../native.js";
import { show } from "../options.js";

export interface GgufFile {
  path: string;
  layout: GgufLayout;
}

/** The keys of a model that is in several files. */
export const SPLIT_KEYS: readonly string[] = ["split.no", "split.count", "split.tensors.count"];

/**
 * The parts of the model whose first file is at `path`, or the one file.
 * Throws `MODEL_NOT_FOUND`, `INVALID_GGUF` (also when parts do not belong together), `LOAD_FAILED`.
 */
export async function readModelFiles(path: string): Promise<GgufFile[]> {
  const files: GgufFile[] = [];
  for (const part of await native().modelFiles(path))
    files.push({ path: part, layout: await native().ggufLayout(part) });
  for (const { problem, ...details } of partProblems(files)) throw invalidModel(problem, details);
  return files;
}

/** What says that files are not the parts of one model. */
export function partProblems(files: readonly GgufFile[]): { path: string; problem: string }[] {
  const problems: { path: string; problem: string }[] = [];
  const add = (file: GgufFile, problem: string) =>
    problems.push({ path: file.path, problem: `${file.path} ${problem}.` });
  const [first] = files;
  if (!first || files.length === 1) return [];
  const names = new Set<string>();
  for (const [i, file] of files.entries()) {
    const { metadata, tensors } = file.layout;
    const [no, count] = [metadata["split.no"], metadata["split.count"]];
    if (no !== i) add(file, `says that it is part ${ordinal(no)}, and it is part ${i + 1}`);
    if (count !== files.length) add(file, `says that there are ${show(count)} parts, and there are ${files.length}`);
    for (const { name } of tensors) {
      if (names.has(name)) add(file, `has the tensor ${name}, which another part has too`);
      names.add(name);
    }
  }
  const claimed = splitTensors(first.layout);
  if (claimed !== undefined && claimed !== names.size)
    add(first, `says that the parts have ${claimed} tensors, and they have ${names.size}`);
  return problems;
}

function ordinal(no: unknown): string {
  return typeof no === "number" ? String(no + 1) : "of nothing";
}

function splitTensors({ metadata }: GgufHeader): number | undefined {
  const count = metadata["split.tensors.count"];
  return typeof count === "number" ? count : undefined;
}

export function invalidModel(what: string, details: Record<string, unknown>): ColdstartError {
  return new ColdstartError("INVALID_GGUF", what, {
    remedy: "Download or convert the model again; compare its size and checksum with the source.",
    details,
  });
}
