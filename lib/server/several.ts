// The answers of one request: there are `n` of them.

import type { EventStream } from "./sse.js";
import type { Exchange } from "./exchange.js";

/** A generation or an answer. */
interface Running<Piece, Result> extends AsyncIterable<Piece> {
  readonly result: Promise<Result>;
  cancel(): void;
}

/** The events of one of them. */
export interface Teller<Piece, Result> {
  begin(): Promise<void>;
  piece(piece: Piece): Promise<void>;
  end(result: Result): Promise<void>;
}

/** When one fails, the others need not go on. */
async function orCancel<T, Result>(all: readonly Running<unknown, Result>[], promises: Promise<T>[]): Promise<T[]> {
  try {
    return await Promise.all(promises);
  } catch (error) {
    for (const one of all) one.cancel();
    throw error;
  }
}

export function resultsOf<Result>(all: readonly Running<unknown, Result>[]): Promise<Result[]> {
  return orCancel(
    all,
    all.map(({ result }) => result),
  );
}

/** @param end what is told when all are there */
export async function stream<Piece, Result>(
  all: readonly Running<Piece, Result>[],
  exchange: Exchange,
  tellerOf: (events: EventStream, index: number) => Teller<Piece, Result>,
  end: (events: EventStream, results: Result[]) => Promise<void>,
): Promise<undefined> {
  // What is wrong with a request comes as an error, and not as a stream that begins well.
  const first = await orCancel(
    all,
    all.map(async (one) => {
      const pieces = one[Symbol.asyncIterator]();
      return { one, pieces, next: await pieces.next() };
    }),
  );
  const events = exchange.begin();
  try {
    const results = await orCancel(
      all,
      first.map(async ({ one, pieces, next }, index) => {
        const teller = tellerOf(events, index);
        await teller.begin();
        for (let now = next; !now.done; now = await pieces.next()) await teller.piece(now.value);
        const result = await one.result;
        exchange.checkWhole();
        await teller.end(result);
        return result;
      }),
    );
    await end(events, results);
    await events.send("[DONE]");
  } catch (error) {
    await events.fail(error);
  } finally {
    events.end();
  }
  return undefined;
}
