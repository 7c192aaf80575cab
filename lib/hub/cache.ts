// Hugging Face's cache of repositories: models--owner--repo/{refs,blobs,snapshots}, shared with their own tools.

import { copyFile, mkdir, readdir, readFile, rename, stat, symlink, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import type { RepoFile } from "./choose-files.js";

/** `HF_HUB_CACHE`, or hub in `HF_HOME`, or in huggingface in the user's folder for caches. */
export function defaultCache(env: NodeJS.ProcessEnv = process.env): string {
  const home = env["HF_HOME"] ?? path.join(env["XDG_CACHE_HOME"] ?? path.join(os.homedir(), ".cache"), "huggingface");
  return env["HF_HUB_CACHE"] ?? path.join(home, "hub");
}

export class RepoCache {
  readonly folder: string;

  constructor(cache: string, repo: string) {
    this.folder = path.join(cache, `models--${repo.replace("/", "--")}`);
  }

  blob({ blob }: Pick<RepoFile, "blob">): string {
    return path.join(this.folder, "blobs", blob);
  }

  snapshot(commit: string): string {
    return path.join(this.folder, "snapshots", commit);
  }

  /** The commit that a branch or tag was at when it was fetched. */
  async commitOf(revision: string): Promise<string | undefined> {
    if (/^[0-9a-f]{40}$/.test(revision)) return revision;
    return readFile(path.join(this.folder, "refs", revision), "utf8").then(
      (commit) => commit.trim(),
      () => undefined,
    );
  }

  /** The files of a commit that are there, whole. */
  async filesOf(commit: string): Promise<RepoFile[]> {
    const folder = this.snapshot(commit);
    const names = await readdir(folder, { recursive: true }).catch(() => []);
    const files = await Promise.all(
      names.map(async (name): Promise<RepoFile | undefined> => {
        const found = await stat(path.join(folder, name)).catch(() => undefined);
        if (!found?.isFile()) return undefined;
        return { path: name.split(path.sep).join("/"), size: found.size, blob: "", sha256: undefined };
      }),
    );
    return files.filter((file) => file !== undefined);
  }

  /** Gives a blob its name in a commit. */
  async link(commit: string, file: RepoFile): Promise<void> {
    const link = path.join(this.snapshot(commit), ...file.path.split("/"));
    if ((await stat(link).catch(() => undefined))?.size === file.size) return;
    await mkdir(path.dirname(link), { recursive: true });
    const blob = this.blob(file);
    const temporary = `${link}.${process.pid}.new`;
    // Where there are no symbolic links (Windows, without its developer mode), the file itself.
    await symlink(path.relative(path.dirname(link), blob), temporary).catch(() => copyFile(blob, temporary));
    await rename(temporary, link);
  }

  async note(revision: string, commit: string): Promise<void> {
    if (revision === commit) return;
    const file = path.join(this.folder, "refs", revision);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, commit);
  }
}
