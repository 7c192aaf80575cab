// What files and tensors should be: lists of checksums.

import { readFile } from "node:fs/promises";
import path from "node:path";
import { ColdstartError } from "../errors.js";
import { invalidOption } from "../options.js";

/** SHA-256 in lower-case hexadecimal, by name. */
export interface Manifest {
  /** Names without folders. */
  files: Map<string, string>;
  tensors: Map<string, string>;
}

/** One of many gigabytes is none. */
const MAX_MANIFEST = 2 ** 26;

/**
 * A list of checksums: what `verifyModel()` returned, as an object or a JSON file, or lines as `sha256sum` writes them.
 * Throws `INVALID_OPTION`, `LOAD_FAILED`.
 */
export async function readManifest(source: unknown): Promise<Manifest> {
  if (typeof source === "object" && source !== null && !(source instanceof URL)) return fromObject(source);
  if (typeof source !== "string" && !(source instanceof URL))
    throw invalidOption("manifest", source, "the path of a list of checksums, or what verifyModel() returned");
  let text: string;
  try {
    const bytes = await readFile(source);
    if (bytes.length > MAX_MANIFEST) throw invalidOption("manifest", String(source), "a list of checksums");
    text = bytes.toString();
  } catch (error) {
    if (error instanceof ColdstartError) throw error;
    throw new ColdstartError("LOAD_FAILED", `${String(source)} cannot be read: ${(error as Error).message}.`, {
      remedy: "Check the path of the manifest and its permissions.",
      details: { path: String(source) },
      cause: error,
    });
  }
  return text.trimStart().startsWith("{") ? fromObject(parseJson(text)) : fromLines(text);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw invalidOption("manifest", (error as Error).message, "JSON as `coldstart verify --json` writes it");
  }
}

function fromObject(value: unknown): Manifest {
  const list = (key: "files" | "tensors", name: "path" | "name") => {
    const given: unknown = (value as Record<string, unknown> | null)?.[key] ?? [];
    if (!Array.isArray(given)) throw invalidOption(`manifest.${key}`, given, `an array of { ${name}, sha256 }`);
    return new Map(
      given.map((entry: unknown, i) => {
        const { [name]: text, sha256 } = (entry ?? {}) as Record<string, unknown>;
        if (typeof text !== "string" || typeof sha256 !== "string" || !/^[0-9a-f]{64}$/i.test(sha256))
          throw invalidOption(
            `manifest.${key}[${i}]`,
            entry,
            `{ ${name}, sha256 }, the latter of 64 hexadecimal digits`,
          );
        return [text, sha256.toLowerCase()];
      }),
    );
  };
  const files = new Map([...list("files", "path")].map(([file, sha256]) => [baseName(file), sha256]));
  return { files, tensors: list("tensors", "name") };
}

function fromLines(text: string): Manifest {
  const files = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    if (line === "" || line.startsWith("#")) continue;
    const [, sha256, file] = /^([0-9a-f]{64}) [ *](.+)$/i.exec(line) ?? [];
    if (sha256 === undefined || file === undefined)
      throw invalidOption(
        "manifest",
        line,
        "lines of 64 hexadecimal digits, two spaces and a name, as sha256sum writes them",
      );
    files.set(baseName(file), sha256.toLowerCase());
  }
  return { files, tensors: new Map() };
}

/** Of paths of any system. */
const baseName = (file: string) => path.win32.basename(file);

/** What does not agree: sentences. */
export function compare(
  manifest: Manifest,
  files: readonly { path: string; sha256: string }[],
  tensors: readonly { name: string; sha256: string }[],
): { path?: string; tensor?: string; message: string }[] {
  const problems: { path?: string; tensor?: string; message: string }[] = [];
  const difference = (what: string, expected: string, found: string) =>
    `${what} has the SHA-256 ${found}, and the manifest says ${expected}.`;
  const known = files.filter((file) => manifest.files.has(baseName(file.path)));
  for (const file of files) {
    const expected = manifest.files.get(baseName(file.path));
    if (expected === undefined) {
      if (known.length > 0) problems.push({ path: file.path, message: `${file.path} is not in the manifest.` });
    } else if (expected !== file.sha256) {
      problems.push({ path: file.path, message: difference(file.path, expected, file.sha256) });
    }
  }
  const found = new Map(tensors.map((tensor) => [tensor.name, tensor.sha256]));
  for (const [name, expected] of manifest.tensors) {
    const sha256 = found.get(name);
    if (sha256 === undefined)
      problems.push({ tensor: name, message: `The tensor ${name} of the manifest is missing.` });
    else if (sha256 !== expected)
      problems.push({ tensor: name, message: difference(`The tensor ${name}`, expected, sha256) });
  }
  for (const { name } of manifest.tensors.size > 0 ? tensors : []) {
    if (!manifest.tensors.has(name))
      problems.push({ tensor: name, message: `The tensor ${name} is not in the manifest.` });
  }
  if (known.length === 0 && manifest.tensors.size === 0) {
    const names = files.map((file) => baseName(file.path)).join(", ");
    problems.push({ message: `The manifest has no checksum of this model: none of ${names}, and no tensors.` });
  }
  return problems;
}
