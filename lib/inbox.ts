// What comes for a reader who may be slow: read once, merged while it waits.

import { ColdstartError } from "./errors.js";

export class Inbox<T> {
  readonly #what: string;
  readonly #merge: (waiting: T, next: T) => boolean;
  readonly #cancel: () => void;
  readonly #waiting: T[] = [];
  #ended = false;
  #error: Error | undefined;
  #isRead = false;
  #wakeReader: (() => void) | undefined;

  /**
   * @param what is read, for messages
   * @param merge adds what comes to what waits, or says that it cannot
   * @param cancel called when the reader leaves early
   */
  constructor(what: string, merge: (waiting: T, next: T) => boolean, cancel: () => void) {
    this.#what = what;
    this.#merge = merge;
    this.#cancel = cancel;
  }

  push(next: T): void {
    const last = this.#waiting.at(-1);
    if (last === undefined || !this.#merge(last, next)) this.#waiting.push(next);
    this.#wake();
  }

  /** Nothing more comes; the reader gets the error, if there is one, after what waits. */
  end(error?: Error): void {
    this.#ended = true;
    this.#error = error;
    this.#wake();
  }

  /** Throws `INVALID_OPTION` the second time. */
  read(): AsyncIterator<T, undefined> {
    if (this.#isRead) {
      throw new ColdstartError("INVALID_OPTION", `This ${this.#what} is read a second time.`, {
        remedy: "Read it once, and use its result for the whole text.",
      });
    }
    this.#isRead = true;
    return {
      next: async () => {
        while (this.#waiting.length === 0 && !this.#ended) {
          await new Promise<void>((resolve) => (this.#wakeReader = resolve));
        }
        const value = this.#waiting.shift();
        if (value !== undefined) return { value, done: false };
        if (this.#error !== undefined) throw this.#error;
        return { value: undefined, done: true };
      },
      return: () => {
        this.#cancel();
        return Promise.resolve({ value: undefined, done: true });
      },
    };
  }

  /** As a web stream; cancelling it is leaving early. */
  readable(): ReadableStream<T> {
    const iterator = this.read();
    return new ReadableStream<T>({
      async pull(controller) {
        const { value, done } = await iterator.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await iterator.return?.();
      },
    });
  }

  #wake(): void {
    this.#wakeReader?.();
    this.#wakeReader = undefined;
  }
}
