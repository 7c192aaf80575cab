import { withResolvers } from "./engine.js";
import { Inbox } from "./inbox.js";

/**
 * Something that comes piece by piece and has a result at its end. It goes on whether or not it is read; pieces that wait are
 * merged. It can be read once. Leaving a `for await` loop early cancels it.
 */
export class Streamed<Piece, Result> implements AsyncIterable<Piece> {
  /** Settles at the end. */
  readonly result: Promise<Result>;

  readonly #abort = new AbortController();
  readonly #inbox: Inbox<Piece>;

  /** @internal */
  constructor(
    what: string,
    merge: (waiting: Piece, next: Piece) => boolean,
    run: (emit: (piece: Piece) => void, signal: AbortSignal) => Promise<Result>,
  ) {
    this.#inbox = new Inbox(what, merge, () => this.cancel());
    const settled = withResolvers<Result>();
    this.result = settled.promise;
    run((piece) => this.#inbox.push(piece), this.#abort.signal).then(
      (result) => {
        settled.resolve(result);
        this.#inbox.end();
      },
      (error: unknown) => {
        settled.reject(error);
        this.#inbox.end(error instanceof Error ? error : new Error(String(error)));
      },
    );
  }

  /** Ends it; the result resolves with `finishReason: "aborted"` and what there is so far. */
  cancel(): void {
    this.#abort.abort();
  }

  /** The pieces as a web stream; cancelling the stream cancels it all. */
  readable(): ReadableStream<Piece> {
    return this.#inbox.readable();
  }

  [Symbol.asyncIterator](): AsyncIterator<Piece, undefined> {
    return this.#inbox.read();
  }
}
