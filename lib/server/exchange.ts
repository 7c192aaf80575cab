// A request and its answer: what routes have to do with.

import type { FastifyReply } from "fastify";
import type { AnswerOptions } from "../index.js";
import { apiError, RequestError } from "./errors.js";
import type { Models } from "./models.js";
import { EventStream } from "./sse.js";

export class Exchange {
  readonly models: Models;
  /** Options of answers where a request says nothing. */
  readonly defaults: AnswerOptions;
  /** Aborted when nobody waits for the answer any more, when it takes too long, or when the server ends. */
  readonly signal: AbortSignal;
  readonly #reply: FastifyReply;

  constructor(models: Models, defaults: AnswerOptions, signal: AbortSignal, reply: FastifyReply) {
    this.models = models;
    this.defaults = defaults;
    this.signal = signal;
    this.#reply = reply;
  }

  /** An answer that was cut short is none. Throws 408. */
  checkWhole(): void {
    if (!this.signal.aborted) return;
    throw new RequestError(apiError(408, "timeout", "The answer took longer than this server lets a request take."));
  }

  /** Answers with a stream from now on. */
  begin(): EventStream {
    return new EventStream(this.#reply, this.signal);
  }
}
