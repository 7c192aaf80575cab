// What models are called where they can be fetched: "hf:owner/repo:Q4_K_M". Pure.

import { invalidOption } from "../options.js";

export interface HubSpec {
  /** `"owner/repo"` */
  repo: string;
  /** A branch, a tag or a commit. */
  revision: string;
  /** Of files to choose from: `"Q4_K_M"`. */
  quantization?: string;
  /** A file of the repository. */
  file?: string;
}

/** Whether it is a spec, and no path. */
export function isSpec(path: unknown): path is string {
  return typeof path === "string" && path.startsWith("hf:");
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$/;

/** Throws `INVALID_OPTION`. */
export function parseSpec(spec: string): HubSpec {
  const refuse = () =>
    invalidOption("model", spec, '"hf:owner/repo", with ":Q4_K_M", "/file.gguf" or "@revision" after it if wanted');
  const match = /^hf:([^/@:]+)\/([^/@:]+)(?:@([^:/]+(?:\/[^:/]+)*?))?(?::([A-Za-z0-9_.-]+)|\/(.+))?$/.exec(spec);
  if (!match) throw refuse();
  const [, owner = "", repo = "", revision = "main", quantization, file] = match;
  if (!NAME.test(owner) || !NAME.test(repo) || repo.includes("..") || !isSafeRevision(revision)) throw refuse();
  if (file !== undefined && !isSafePath(file)) throw refuse();
  return {
    repo: `${owner}/${repo}`,
    revision,
    ...(quantization !== undefined && { quantization }),
    ...(file !== undefined && { file }),
  };
}

function isSafeRevision(revision: string): boolean {
  return /^[A-Za-z0-9._/-]{1,255}$/.test(revision) && isSafePath(revision);
}

/** A relative path that stays where it is put, on all systems. */
export function isSafePath(path: string): boolean {
  const parts = path.split("/");
  // eslint-disable-next-line no-control-regex
  return parts.every((part) => part !== "" && part !== "." && part !== ".." && !/[\\:\u0000-\u001f]/.test(part));
}
