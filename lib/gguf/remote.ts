// Headers of files on servers: fetched piece by piece, until the reader of local files has enough.

import { ColdstartError } from "../errors.js";
import { native, type InspectedGguf } from "../native.js";
import { invalidOption } from "../options.js";
import { formatBytes } from "../units.js";

export interface RemoteRequest {
  headers: Readonly<Record<string, string>>;
  signal: AbortSignal | undefined;
}

export function isRemote(file: unknown): file is string | URL {
  return file instanceof URL ? /^https?:$/.test(file.protocol) : typeof file === "string" && /^https?:\/\//i.test(file);
}

/** Throws `INVALID_OPTION`. */
export function toUrl(file: string | URL): URL {
  try {
    return new URL(file);
  } catch {
    throw invalidOption("path", String(file), "the path or the URL of a GGUF file");
  }
}

/** Most headers fit the first; large vocabularies need a few megabytes. */
const FIRST_FETCH = 2 ** 20;
/** No known header has a tenth of it. */
const MAX_HEADER = 2 ** 28;

/** Throws `MODEL_NOT_FOUND`, `INVALID_GGUF`, `LOAD_FAILED`, `ABORTED`. */
export async function inspectRemote(url: URL, arrayLimit: number, request: RemoteRequest): Promise<InspectedGguf> {
  const file = new RemoteFile(url, request);
  for (let wanted = FIRST_FETCH; ;) {
    const { bytes, size } = await file.read(wanted);
    const result = await native().inspectGgufPrefix(bytes, size, arrayLimit);
    if (typeof result !== "number") return result;
    // A server may send less than it was asked for, but not nothing.
    if (result > MAX_HEADER) throw unreadable(url, `its header has more than ${formatBytes(MAX_HEADER)}`);
    wanted = Math.max(result, 2 * bytes.length);
  }
}

/** The first bytes of a file, of which there are more with every call. */
class RemoteFile {
  readonly #url: URL;
  readonly #request: RemoteRequest;
  #bytes = Buffer.alloc(0);
  #size: number | undefined;

  constructor(url: URL, request: RemoteRequest) {
    this.#url = url;
    this.#request = request;
  }

  /** At least one more byte than the last time, `wanted` if the server sends so many. */
  async read(wanted: number): Promise<{ bytes: Buffer; size: number }> {
    const { headers, signal } = this.#request;
    const from = this.#bytes.length;
    try {
      const response = await fetch(this.#url, {
        // The bytes as they are: those of a compressed answer are others.
        headers: { ...headers, range: `bytes=${from}-${wanted - 1}`, "accept-encoding": "identity" },
        ...(signal && { signal }),
      });
      if (!response.ok) {
        await response.body?.cancel();
        throw refused(this.#url, response.status);
      }
      const { skip, size } = this.#check(response, from);
      await this.#append(response, skip, Math.min(wanted, size));
      if (this.#bytes.length === from && size > from) throw unreadable(this.#url, "the server's answer is empty");
      return { bytes: this.#bytes, size };
    } catch (error) {
      if (error instanceof ColdstartError) throw error;
      if (signal?.aborted) {
        throw new ColdstartError("ABORTED", `Reading ${shown(this.#url)} was aborted.`, {
          remedy: "Read it again when needed.",
          cause: signal.reason,
        });
      }
      const { message, cause } = error as Error;
      throw unreadable(this.#url, cause instanceof Error ? cause.message || String(cause) : message, error);
    }
  }

  /** How many bytes of the answer are known already, and the size of the whole file. */
  #check(response: Response, from: number): { skip: number; size: number } {
    const { status, headers } = response;
    const isPart = status === 206;
    const [, start, total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(headers.get("content-range") ?? "") ?? [];
    const size = isPart ? Number(total) : Number(headers.get("content-length") ?? NaN);
    if (!Number.isSafeInteger(size) || (isPart && Number(start) !== from))
      throw unreadable(
        this.#url,
        "the server does not say the file's size, or sent another part than it was asked for",
      );
    if ((this.#size ??= size) !== size) throw unreadable(this.#url, "it changed while it was read");
    return { skip: isPart ? 0 : from, size };
  }

  /** Up to `end` bytes in all; what more the server sends is not received. */
  async #append(response: Response, skip: number, end: number): Promise<void> {
    const parts = [this.#bytes];
    let [skipped, length] = [0, this.#bytes.length];
    for await (const bytes of (response.body ?? []) as AsyncIterable<Uint8Array>) {
      const part = Buffer.from(bytes).subarray(Math.min(bytes.length, skip - skipped));
      skipped += bytes.length - part.length;
      parts.push(part.subarray(0, end - length));
      length = Math.min(length + part.length, end);
      if (length === end) break;
    }
    this.#bytes = Buffer.concat(parts);
  }
}

/** Without passwords and signatures. */
const shown = (url: URL) => `${url.origin}${url.pathname}`;

function refused(url: URL, status: number): ColdstartError {
  if (status === 404 || status === 410) {
    return new ColdstartError("MODEL_NOT_FOUND", `There is no file at ${shown(url)}: the server answered ${status}.`, {
      remedy: "Check the URL; of Hugging Face it has /resolve/ and not /blob/.",
      details: { url: shown(url), status },
    });
  }
  const needsLogin = status === 401 || status === 403;
  return new ColdstartError("LOAD_FAILED", `${shown(url)} cannot be read: the server answered ${status}.`, {
    remedy: needsLogin ? 'Give what it asks for in headers: { authorization: "Bearer …" }.' : "Try again later.",
    details: { url: shown(url), status },
  });
}

function unreadable(url: URL, why: string, cause?: unknown): ColdstartError {
  return new ColdstartError("LOAD_FAILED", `${shown(url)} cannot be read: ${why}.`, {
    remedy: "Check the URL and the connection, or download the file.",
    details: { url: shown(url) },
    ...(cause === undefined ? {} : { cause }),
  });
}
