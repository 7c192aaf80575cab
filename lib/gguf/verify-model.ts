import { stat } from "node:fs/promises";
import { ColdstartError, withoutRemedy } from "../errors.js";
import { native } from "../native.js";
import { OptionReader, toPath } from "../options.js";
import { compare, readManifest } from "./manifest.js";
import { partProblems, type GgufFile } from "./parts.js";
import { scanFile } from "./scan.js";
import { vocabularyProblems } from "./vocabulary.js";
import { readWatch, WATCH_NAMES, type WatchOptions } from "./watch.js";

export interface VerifyOptions extends WatchOptions {
  /**
   * Checksums to compare with: what `verifyModel()` returned, or the path of a file with that as JSON or with lines as
   * `sha256sum` writes them. Files are found by their names without folders. Of files or tensors that it leaves out nothing is
   * expected if it has none of this model, else they are problems.
   */
  manifest?: string | URL | Pick<Verification, "files" | "tensors">;
}

/** What was found of a model. */
export interface Verification {
  /** Whether there are no problems. */
  ok: boolean;
  problems: Problem[];
  files: {
    path: string;
    bytes: number;
    /** Of the whole file, in hexadecimal. */
    sha256: string;
  }[];
  /** Of all files whose headers can be read, in their order. */
  tensors: TensorChecksum[];
}

export interface TensorChecksum {
  name: string;
  /** `"f32"`, `"q4_K"`, … */
  type: string;
  bytes: number;
  /** Of the weights as they are in the file, in hexadecimal. */
  sha256: string;
}

export interface Problem {
  /**
   * - `"header"`: it breaks the format's rules, or does not fit the file
   * - `"parts"`: files of a split model are missing, or do not belong together
   * - `"padding"`: bytes between tensors that should be zero
   * - `"trailing"`: bytes after the end
   * - `"weights"`: one that is NaN or infinite
   * - `"vocabulary"`: arrays that do not fit one another, tokens that occur twice, numbers of tokens that there are not
   * - `"checksum"`: another than in the manifest, or none there
   */
  kind: "header" | "parts" | "padding" | "trailing" | "weights" | "vocabulary" | "checksum";
  /** A sentence. */
  message: string;
  /** The file. */
  path?: string;
  tensor?: string;
}

/**
 * Reads all of a model once and says what is wrong with it: the header, the padding, bytes after the end, weights that are NaN
 * or infinite (in quantized tensors: whose scale is), the vocabulary; and computes SHA-256 of each file and tensor.
 *
 * Weights of integer types are not looked at. Memory does not grow with the model.
 *
 * @param model path of a GGUF file; of a split model the first file
 *
 * Resolves also for a model that is damaged: look at `ok`. Rejects with `MODEL_NOT_FOUND`, `INVALID_OPTION`, `LOAD_FAILED`
 * (a file cannot be read), `ABORTED`, `NATIVE_ADDON_MISSING`.
 */
export async function verifyModel(model: string | URL, options: VerifyOptions = {}): Promise<Verification> {
  const read = new OptionReader(options, ["manifest", ...WATCH_NAMES] satisfies readonly (keyof VerifyOptions)[]);
  const { onProgress, checkAborted } = readWatch(read, "Verifying");
  const path = toPath(model, "model");
  checkAborted();
  const manifest = read.raw("manifest") === undefined ? undefined : await readManifest(read.raw("manifest"));

  const problems: Problem[] = [];
  const paths = await reported(problems, "header", path, () => native().modelFiles(path));
  const found = await readHeaders(paths ?? [path], problems);
  const headers = found.flatMap(({ file }) => (file ? [file] : []));
  if (headers.length === paths?.length)
    for (const { path: part, problem } of partProblems(headers))
      problems.push({ kind: "parts", path: part, message: problem });
  await checkVocabulary(headers, problems);

  const total = found.reduce((sum, { bytes }) => sum + bytes, 0);
  let done = 0;
  const onBytes = (count: number) => {
    checkAborted();
    done += count;
    onProgress?.(done / total);
  };
  const files: Verification["files"] = [];
  const tensors: TensorChecksum[] = [];
  for (const { path: part, bytes, file } of found) {
    const scan = await scanFile(part, bytes, file, onBytes);
    files.push({ path: part, bytes, sha256: scan.sha256 });
    tensors.push(...scan.tensors);
    problems.push(...scan.problems);
  }
  if (manifest)
    for (const difference of compare(manifest, files, tensors)) problems.push({ kind: "checksum", ...difference });
  return { ok: problems.length === 0, problems, files, tensors };
}

interface FoundFile {
  path: string;
  bytes: number;
  /** Undefined when its header cannot be read. */
  file: GgufFile | undefined;
}

/** Files that are not there are problems, but for the first. */
async function readHeaders(paths: readonly string[], problems: Problem[]): Promise<FoundFile[]> {
  const found: FoundFile[] = [];
  const isKnown = problems.length > 0;
  for (const [i, path] of paths.entries()) {
    const status = await stat(path).catch(() => undefined);
    if (!status?.isFile() && i > 0) {
      problems.push({ kind: "parts", path, message: `There is no file at ${path}, a part of the model.` });
      continue;
    }
    // Said already, of the first file.
    const layout = isKnown ? undefined : await reported(problems, "header", path, () => native().ggufLayout(path));
    found.push({ path, bytes: layout?.fileSize ?? status?.size ?? 0, file: layout && { path, layout } });
  }
  return found;
}

/** Undefined, and a problem, where `body` finds the file to be damaged. */
async function reported<T>(
  problems: Problem[],
  kind: Problem["kind"],
  path: string,
  body: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await body();
  } catch (error) {
    if (!(error instanceof ColdstartError && error.code === "INVALID_GGUF")) throw error;
    problems.push({ kind, path, message: `${path}: ${withoutRemedy(error)}` });
    return undefined;
  }
}

async function checkVocabulary(headers: readonly GgufFile[], problems: Problem[]): Promise<void> {
  const [first] = headers;
  if (!first) return;
  const { metadata } = await native().inspectGguf(first.path, Number.MAX_SAFE_INTEGER);
  const tensors = headers.flatMap(({ layout }) => layout.tensors);
  for (const what of vocabularyProblems(metadata, tensors))
    problems.push({ kind: "vocabulary", path: first.path, message: `The vocabulary of ${first.path}: ${what}.` });
}
