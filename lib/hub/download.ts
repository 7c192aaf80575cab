// One large file: fetched in pieces, several at a time, kept when interrupted, and checked at the end.

import { createHash, randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, readFile, rename, rm, stat, statfs, utimes, writeFile, type FileHandle } from "node:fs/promises";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { unwritable } from "../atomic-file.js";
import { ColdstartError } from "../errors.js";
import { formatBytes } from "../units.js";
import { aborted, failed, request, type RequestOptions } from "./request.js";

export interface Download {
  url: URL;
  /** Where it is when it is whole. */
  target: string;
  size: number;
  /** Says whether the bytes are those that they should be. */
  hash: { algorithm: "sha256"; value: string } | { algorithm: "git"; value: string };
}

export interface DownloadOptions extends RequestOptions {
  /** Pieces at the same time. */
  connections: number;
  /** Gets bytes that came, and when pieces have to be fetched again, less than nothing. */
  onBytes: (bytes: number) => void;
}

const PIECE = 2 ** 24;
/** A lock that nobody has touched for so long was left behind. */
const STALE_LOCK = 20_000;

/** Throws `DOWNLOAD_FAILED`, `MODEL_NOT_FOUND`, `WRITE_FAILED`, `ABORTED`. */
export async function download(file: Download, options: DownloadOptions): Promise<void> {
  if ((await stat(file.target).catch(() => undefined))?.size === file.size) {
    options.onBytes(file.size);
    return;
  }
  try {
    await mkdir(path.dirname(file.target), { recursive: true });
    await withLock(`${file.target}.lock`, options.signal, async () => {
      // Another process may have been faster.
      if ((await stat(file.target).catch(() => undefined))?.size === file.size) options.onBytes(file.size);
      else await new Pieces(file, options).fetchAll();
    });
  } catch (error) {
    if (error instanceof Error && "syscall" in error) throw unwritable(file.target, error);
    throw error;
  }
}

class Pieces {
  readonly #file: Download;
  readonly #options: DownloadOptions;
  readonly #partial: string;
  readonly #journal: string;
  readonly #done: Set<number>;
  #saved = Promise.resolve();

  constructor(file: Download, options: DownloadOptions) {
    this.#file = file;
    this.#options = options;
    this.#partial = `${file.target}.partial`;
    this.#journal = `${file.target}.partial.json`;
    this.#done = new Set();
  }

  async fetchAll(): Promise<void> {
    const { size, target } = this.#file;
    await this.#resume();
    await this.#checkRoom();
    const handle = await open(this.#partial, (await stat(this.#partial).catch(() => undefined)) ? "r+" : "w+");
    try {
      await handle.truncate(size);
      await this.#fetchPieces(handle);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await this.#verify();
    await rename(this.#partial, target);
    await rm(this.#journal, { force: true });
  }

  get #count(): number {
    return Math.ceil(this.#file.size / PIECE);
  }

  #lengthOf(piece: number): number {
    return Math.min(PIECE, this.#file.size - piece * PIECE);
  }

  /** What an earlier try has fetched. */
  async #resume(): Promise<void> {
    try {
      const { size, done } = JSON.parse(await readFile(this.#journal, "utf8")) as { size: number; done: number[] };
      const partial = await stat(this.#partial);
      if (size !== this.#file.size || partial.size !== size) return;
      for (const piece of done) if (Number.isInteger(piece) && piece >= 0 && piece < this.#count) this.#done.add(piece);
      for (const piece of this.#done) this.#options.onBytes(this.#lengthOf(piece));
    } catch {
      // Nothing that could be gone on with.
    }
  }

  async #checkRoom(): Promise<void> {
    const folder = path.dirname(this.#partial);
    const missing = this.#file.size - [...this.#done].reduce((sum, piece) => sum + this.#lengthOf(piece), 0);
    const { bavail, bsize } = await statfs(folder);
    if (bavail * bsize >= missing) return;
    const what = `${folder} has room for ${formatBytes(bavail * bsize)}, and ${formatBytes(missing)} are to come`;
    throw new ColdstartError("WRITE_FAILED", `${what}.`, {
      remedy: "Make room, or set HF_HUB_CACHE to a folder on another disk.",
      details: { path: folder, free: bavail * bsize, bytes: missing },
    });
  }

  async #fetchPieces(handle: FileHandle): Promise<void> {
    const open = Array.from({ length: this.#count }, (_, piece) => piece).filter((piece) => !this.#done.has(piece));
    const failure = new AbortController();
    const { signal, connections } = this.#options;
    const both = signal ? AbortSignal.any([signal, failure.signal]) : failure.signal;
    let isWhole = false;
    const work = async (most: number) => {
      for (let count = 0; count < most && !isWhole; count++) {
        const piece = open.shift();
        if (piece === undefined) return;
        // A server without ranges sends all of it, once.
        if (await this.#fetchPiece(handle, piece, both)) isWhole = true;
        this.#done.add(piece);
        await this.#save();
      }
    };
    let error: { reason: unknown } | undefined;
    const guarded = (most: number) =>
      work(most).catch((reason: unknown) => {
        error ??= { reason };
        failure.abort();
      });
    // The first one alone: it says whether the server has ranges.
    await guarded(1);
    await Promise.all(Array.from({ length: error ? 0 : connections }, () => guarded(Infinity)));
    if (error) throw signal?.aborted ? aborted(signal) : error.reason;
  }

  /** One after the other, and whole or not at all. */
  #save(): Promise<void> {
    this.#saved = this.#saved.then(async () => {
      const fresh = `${this.#journal}.new`;
      await writeFile(fresh, JSON.stringify({ size: this.#file.size, done: [...this.#done] }));
      await rename(fresh, this.#journal);
    });
    return this.#saved;
  }

  /** True when the server has sent all of the file instead. */
  async #fetchPiece(handle: FileHandle, piece: number, signal: AbortSignal): Promise<boolean> {
    const { url, size } = this.#file;
    const begin = piece * PIECE;
    const end = begin + this.#lengthOf(piece);
    let at = begin;
    let progress = 0;
    const options = { ...this.#options, signal };
    const headers = () => ({ range: `bytes=${at}-${end - 1}` });
    return request(url, headers, options, async (response, touch) => {
      const isPart = response.status === 206;
      if (!isPart) {
        this.#options.onBytes(-progress - [...this.#done].reduce((sum, one) => sum + this.#lengthOf(one), 0));
        progress = 0;
        this.#done.clear();
        at = 0;
      }
      this.#check(response, isPart, at);
      const until = isPart ? end : size;
      for await (const bytes of (response.body ?? []) as AsyncIterable<Uint8Array>) {
        touch();
        if (at + bytes.length > until) throw failed(url, "the server sent more than it was asked for");
        await handle.write(bytes, 0, bytes.length, at);
        at += bytes.length;
        progress += bytes.length;
        this.#options.onBytes(bytes.length);
      }
      if (at < until) throw new Error(`the connection ended after ${at} of ${until} bytes`);
      return !isPart;
    });
  }

  #check(response: Response, isPart: boolean, at: number): void {
    const { url, size } = this.#file;
    const [, start, total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers.get("content-range") ?? "") ?? [];
    const said = isPart ? Number(total) : Number(response.headers.get("content-length") ?? size);
    if (said !== size) throw failed(url, `the server has ${said} bytes, and the repository says ${size}`);
    if (isPart && Number(start) !== at) throw new Error("the server sent another part than it was asked for");
  }

  async #verify(): Promise<void> {
    const { hash, url, size } = this.#file;
    const digest = createHash(hash.algorithm === "git" ? "sha1" : "sha256");
    if (hash.algorithm === "git") digest.update(`blob ${size}\0`);
    for await (const bytes of createReadStream(this.#partial, { highWaterMark: 2 ** 20 })) {
      if (this.#options.signal?.aborted) throw aborted(this.#options.signal);
      digest.update(bytes as Buffer);
    }
    const found = digest.digest("hex");
    if (found === hash.value) return;
    await rm(this.#partial, { force: true });
    await rm(this.#journal, { force: true });
    throw failed(url, `its checksum is ${found}, and should be ${hash.value}; what was fetched is removed`);
  }
}

/** One process at a time. The others wait, and look whether it is still alive. */
async function withLock<T>(lock: string, signal: AbortSignal | undefined, body: () => Promise<T>): Promise<T> {
  const owner = randomBytes(8).toString("hex");
  while (!(await tryLock(lock, owner))) {
    if (signal?.aborted) throw aborted(signal);
    const held = await stat(lock).catch(() => undefined);
    const isStale = held !== undefined && Date.now() - held.mtimeMs > STALE_LOCK;
    // Of several who see that, one succeeds.
    if (isStale)
      await rename(lock, `${lock}.${owner}`).then(
        () => rm(`${lock}.${owner}`),
        () => undefined,
      );
    else await delay(100);
  }
  const heart = setInterval(() => void utimes(lock, new Date(), new Date()).catch(() => undefined), STALE_LOCK / 10);
  heart.unref();
  try {
    return await body();
  } finally {
    clearInterval(heart);
    await rm(lock, { force: true });
  }
}

async function tryLock(lock: string, owner: string): Promise<boolean> {
  return writeFile(lock, owner, { flag: "wx" }).then(
    () => true,
    (error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
      throw error;
    },
  );
}
