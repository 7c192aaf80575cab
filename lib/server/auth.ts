// Who may ask: API keys, names of this machine, and how much one client may ask for at a time.

import { createHash, timingSafeEqual } from "node:crypto";
import { apiError, RequestError } from "./errors.js";

const sha256 = (text: string) => createHash("sha256").update(text).digest();

/** Whether a host is this machine alone. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

export class Keys {
  readonly #digests: readonly Buffer[];

  constructor(keys: readonly string[]) {
    this.#digests = keys.map(sha256);
  }

  get isOpen(): boolean {
    return this.#digests.length === 0;
  }

  /** Which client asks: one for each key. All keys are compared, in the same time whatever they are. Throws 401. */
  check(authorization: string | undefined): string {
    const [, given = ""] = /^Bearer +(\S+)$/i.exec(authorization ?? "") ?? [];
    const digest = sha256(given);
    const matches = this.#digests.map((one) => timingSafeEqual(one, digest));
    if (!matches.includes(true)) {
      const message = "This server asks for an API key: Authorization: Bearer <key>.";
      throw new RequestError(apiError(401, "invalid_api_key", message, { type: "authentication_error" }));
    }
    return `key ${matches.indexOf(true)}`;
  }
}

/**
 * A page of the web can make a browser ask this machine under a name of its own (DNS rebinding). Its requests say that name. Throws 403.
 */
export function checkHost(host: string | undefined): void {
  const name = (host ?? "").replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1");
  if (isLoopback(name)) return;
  throw new RequestError(
    apiError(403, "forbidden_host", "This server answers requests to this machine's own names alone."),
  );
}

/** Requests of each client that are under way. */
export class Clients {
  readonly #most: number;
  readonly #counts = new Map<string, number>();

  constructor(most: number) {
    this.#most = most;
  }

  /** Counts one more; what it returns ends it. Throws 429. */
  enter(client: string): () => void {
    const count = this.#counts.get(client) ?? 0;
    if (count >= this.#most) {
      const message = `There are ${count} requests of yours under way, which is the most there may be.`;
      throw new RequestError(apiError(429, "too_many_requests", message, { type: "rate_limit_error" }));
    }
    this.#counts.set(client, count + 1);
    let isIn = true;
    return () => {
      if (!isIn) return;
      isIn = false;
      const left = (this.#counts.get(client) ?? 1) - 1;
      if (left === 0) this.#counts.delete(client);
      else this.#counts.set(client, left);
    };
  }
}
