// Requests to a hub, tried again where that may help.

import { readFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ColdstartError } from "../errors.js";

export interface RequestOptions {
  token: string | undefined;
  signal: AbortSignal | undefined;
  /** Of one request. */
  attempts: number;
  /** Milliseconds without a byte after which a request is given up. */
  stall: number;
}

/** Where it may help to ask again. */
const PASSING = [408, 425, 429, 500, 502, 503, 504];
const LONGEST_PAUSE = 30_000;

/** `HF_TOKEN`, or what is in the file that Hugging Face's tools keep it in. */
export async function defaultToken(env: NodeJS.ProcessEnv = process.env): Promise<string | undefined> {
  if (env["HF_TOKEN"]) return env["HF_TOKEN"];
  const home = env["HF_HOME"] ?? path.join(env["XDG_CACHE_HOME"] ?? path.join(os.homedir(), ".cache"), "huggingface");
  const file = env["HF_TOKEN_PATH"] ?? path.join(home, "token");
  return readFile(file, "utf8").then(
    (token) => token.trim() || undefined,
    () => undefined,
  );
}

/**
 * Asks until `use` has done its work with an answer; what it throws is a reason to ask again, but a `ColdstartError`.
 *
 * @param headers are asked for anew for each attempt
 */
export async function request<T>(
  url: URL,
  headers: () => Record<string, string>,
  { token, signal, attempts, stall }: RequestOptions,
  use: (response: Response, touch: () => void) => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const timeout = new AbortController();
    let timer = setTimeout(() => timeout.abort(), stall);
    const touch = () => {
      clearTimeout(timer);
      timer = setTimeout(() => timeout.abort(), stall);
    };
    let pause = Math.min(LONGEST_PAUSE, 250 * 2 ** attempt * (0.5 + Math.random()));
    try {
      const response = await fetch(url, {
        // The token stays with its host: fetch() takes it out where it is sent on to another one.
        headers: {
          ...headers(),
          "accept-encoding": "identity",
          ...(token !== undefined && { authorization: `Bearer ${token}` }),
        },
        signal: signal ? AbortSignal.any([signal, timeout.signal]) : timeout.signal,
      });
      if (response.ok) return await use(response, touch);
      await response.body?.cancel();
      const { status } = response;
      if (!PASSING.includes(status)) throw refused(url, status);
      const asked = Number(response.headers.get("retry-after")) * 1000;
      if (asked > 0) pause = Math.min(asked, LONGEST_PAUSE);
      throw new Error(`the server answered with ${status}`);
    } catch (error) {
      if (signal?.aborted) throw aborted(signal);
      if (error instanceof ColdstartError) throw error;
      const reason = timeout.signal.aborted ? `nothing came for ${stall / 1000} s` : reasonOf(error);
      if (attempt >= attempts) throw failed(url, reason, error);
      await delay(pause, undefined, { ...(signal && { signal }) }).catch(() => {
        throw aborted(signal);
      });
    } finally {
      clearTimeout(timer);
    }
  }
}

function reasonOf(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error ? cause.message || String(cause) : message;
}

/** Without passwords and signatures. */
const shown = (url: URL) => `${url.origin}${url.pathname}`;

export function failed(url: URL, reason: string, cause?: unknown): ColdstartError {
  return new ColdstartError("DOWNLOAD_FAILED", `${shown(url)} could not be fetched: ${reason}.`, {
    remedy: "Try again: what was fetched is kept. HF_ENDPOINT names another server, offline: true uses what is there.",
    details: { url: shown(url) },
    cause,
  });
}

function refused(url: URL, status: number): ColdstartError {
  const details = { url: shown(url), status };
  if (status === 404)
    return new ColdstartError("MODEL_NOT_FOUND", `There is nothing at ${shown(url)} (404).`, {
      remedy: "Check the name and the revision.",
      details,
    });
  const isForbidden = status === 401 || status === 403;
  return new ColdstartError("DOWNLOAD_FAILED", `${shown(url)} was refused with the status ${status}.`, {
    remedy: isForbidden
      ? "Set HF_TOKEN to a token that may read it; for a gated model ask for access on its page first. A name that is wrong may be refused so, too."
      : "Check the name, or try again later.",
    details,
  });
}

export function aborted(signal: AbortSignal | undefined): ColdstartError {
  return new ColdstartError("ABORTED", "Fetching the model was aborted.", {
    remedy: "What was fetched is kept; start again when needed.",
    cause: signal?.reason,
  });
}
