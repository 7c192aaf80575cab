// Questions and prompts that an evaluation asks, from anywhere.

import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { ColdstartError } from "../errors.js";
import { invalidOption, OptionReader, toPath } from "../options.js";

/** Objects, or the path of a file with one JSON object a line. */
export type Items<T> = string | URL | Iterable<T> | AsyncIterable<T>;

export function checkItems(value: unknown, option: string): AsyncIterable<unknown> {
  if (typeof value === "string" || value instanceof URL) return readLines(toPath(value, option, "a path or items"));
  const iterable = typeof value === "object" && value !== null;
  if (iterable && Symbol.asyncIterator in value) return value as AsyncIterable<unknown>;
  if (iterable && Symbol.iterator in value) return toAsync(value as Iterable<unknown>);
  throw invalidOption(option, value, "a path, an array or an iterable");
}

// eslint-disable-next-line @typescript-eslint/require-await -- It is what makes an iterable an async one.
async function* toAsync(items: Iterable<unknown>): AsyncIterable<unknown> {
  yield* items;
}

/** Empty lines do not count. */
async function* readLines(file: string): AsyncIterable<unknown> {
  const input = createReadStream(file, "utf8");
  const failed = new Promise<never>((_, reject) => {
    input.once("error", (cause) =>
      reject(
        new ColdstartError("MODEL_NOT_FOUND", `${file} cannot be read: ${cause.message}.`, {
          remedy: "Check the path.",
          details: { path: file },
          cause,
        }),
      ),
    );
  });
  failed.catch(() => undefined);
  const lines = createInterface({ input, crlfDelay: Infinity })[Symbol.asyncIterator]();
  try {
    for (let number = 1; ; number++) {
      const line = await Promise.race([lines.next(), failed]);
      if (line.done) {
        if (input.errored) await failed;
        return;
      }
      if (line.value.trim() === "") continue;
      yield parseLine(line.value, `${file}:${number}`);
    }
  } finally {
    input.destroy();
  }
}

function parseLine(line: string, where: string): unknown {
  try {
    return JSON.parse(line);
  } catch (cause) {
    throw new ColdstartError("INVALID_OPTION", `${where} is not JSON: ${(cause as Error).message}.`, {
      remedy: "Write one JSON object a line.",
      details: { where },
      cause,
    });
  }
}

/** Reads the fields of an item; its number is in the messages. */
export function readItem(item: unknown, index: number, names: readonly string[]): OptionReader {
  // What else it says, such as a subject or an id, is nobody's business.
  const known =
    typeof item === "object" && item !== null && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).filter(([name]) => names.includes(name)))
      : item;
  return new OptionReader(known, names, `items[${index}].`);
}

/** Works on some items at a time; results in the items' order. */
export async function* inOrder<T, R>(
  items: AsyncIterable<T>,
  atATime: number,
  work: (item: T, index: number) => Promise<R>,
): AsyncGenerator<R> {
  const started: Promise<R>[] = [];
  let index = 0;
  for await (const item of items) {
    const result = work(item, index++);
    result.catch(() => undefined); // Whoever waits for it hears of it.
    started.push(result);
    if (started.length < atATime) continue;
    yield (await started.shift()) as R;
  }
  for (const result of started) yield await result;
}
