// Server-sent events: one answer of many parts.

import type { ServerResponse } from "node:http";
import { once } from "node:events";
import type { FastifyReply } from "fastify";
import { toApiError } from "./errors.js";

/** A comment, so that nothing on the way takes a long silence for the end. */
const PING_INTERVAL = 15_000;

export class EventStream {
  readonly #response: ServerResponse;
  readonly #signal: AbortSignal;
  readonly #ping: NodeJS.Timeout;

  /** @param signal is aborted when nobody reads any more */
  constructor(reply: FastifyReply, signal: AbortSignal) {
    reply.hijack();
    this.#response = reply.raw;
    this.#signal = signal;
    const headers = {
      ...reply.getHeaders(),
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
    };
    this.#response.writeHead(200, headers as Record<string, string>);
    this.#ping = setInterval(() => this.#response.write(": ping\n\n"), PING_INTERVAL).unref();
  }

  /** Waits while the reader is slower than the writer. */
  async send(data: unknown, event?: string): Promise<void> {
    if (this.#response.destroyed) return;
    const name = event === undefined ? "" : `event: ${event}\n`;
    const text = typeof data === "string" ? data : JSON.stringify(data);
    if (this.#response.write(`${name}data: ${text}\n\n`)) return;
    await once(this.#response, "drain", { signal: this.#signal }).catch(() => undefined);
  }

  /** Says that something went wrong, after all. */
  async fail(error: unknown): Promise<void> {
    await this.send(toApiError(error).body);
  }

  end(): void {
    clearInterval(this.#ping);
    this.#response.end();
  }
}
