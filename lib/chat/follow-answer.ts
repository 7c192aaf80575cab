// Reads an answer while it is generated.

import { setTimeout as delay } from "node:timers/promises";
import type { GenerationChunk } from "../generation.js";
import type { NativeAnswer, NativeAnswerParser } from "../native.js";

/** What came since the last piece. */
export type AnswerPiece =
  | { type: "text"; text: string }
  | { type: "reasoning"; text: string }
  /** Of the call of this index; `name` and `id` with its first piece, `arguments` is more of the JSON. */
  | { type: "toolCall"; index: number; id: string; name: string; arguments: string };

/** Of the time, at most this share is spent on reading what is not whole yet: all of it is read again each time. */
const SHARE = 0.1;

/**
 * Emits what the chunks say, and returns all of it.
 *
 * @param isWhole whether the answer came to its end, when there are no more chunks
 */
export async function followAnswer(
  chunks: AsyncIterable<GenerationChunk>,
  parser: NativeAnswerParser,
  isWhole: () => Promise<boolean>,
  newId: () => string,
  emit: (piece: AnswerPiece) => void,
): Promise<NativeAnswer> {
  const ids: string[] = [];
  const withIds = (answer: NativeAnswer): NativeAnswer => ({
    ...answer,
    toolCalls: answer.toolCalls.map((call, index) => ({
      ...call,
      id: (ids[index] ??= call.id === "" ? newId() : call.id),
    })),
  });
  // Of an answer that goes on from a beginning, that is known already.
  const beginning = await parser.parse("", true);
  let known = withIds(beginning ?? { content: "", reasoning: "", toolCalls: [] });
  const tell = (answer: NativeAnswer, isLast: boolean) => {
    known = emitDifference(known, answer, isLast, emit);
  };

  let text = "";
  let isBehind = false;
  const end = new AbortController();
  const parseAsItComes = async () => {
    while (isBehind && !end.signal.aborted) {
      isBehind = false;
      const start = performance.now();
      const answer = await parser.parse(text, true);
      if (answer) tell(withIds(answer), false);
      const pause = ((performance.now() - start) * (1 - SHARE)) / SHARE;
      if (pause > 5) await delay(pause, undefined, { signal: end.signal }).catch(() => undefined);
    }
  };
  let parsing: Promise<void> | undefined;
  try {
    for await (const chunk of chunks) {
      text += chunk.text;
      isBehind = true;
      parsing ??= parseAsItComes().finally(() => (parsing = undefined));
    }
  } finally {
    end.abort();
    await parsing;
  }
  const answer = withIds(await readWhole(parser, text, await isWhole()));
  tell(answer, true);
  return answer;
}

async function readWhole(parser: NativeAnswerParser, text: string, isWhole: boolean): Promise<NativeAnswer> {
  const whole = isWhole ? await parser.parse(text, false) : undefined;
  if (whole) return whole;
  const begun = await parser.parse(text, true);
  const isLost = begun === undefined || (isWhole && isEmpty(begun));
  // What does not follow the format is what it is: text.
  return isLost ? { content: text, reasoning: "", toolCalls: [] } : begun;
}

function isEmpty({ content, reasoning, toolCalls }: NativeAnswer): boolean {
  return content === "" && reasoning === "" && toolCalls.length === 0;
}

/** Emits what `next` has more than `known`, and returns what is known now. The name of a call may grow until `next` is whole. */
export function emitDifference(
  known: NativeAnswer,
  next: NativeAnswer,
  isWhole: boolean,
  emit: (piece: AnswerPiece) => void,
): NativeAnswer {
  const now = { ...known, toolCalls: [...known.toolCalls] };
  for (const [field, type] of [
    ["reasoning", "reasoning"],
    ["content", "text"],
  ] as const) {
    const more = extension(known[field], next[field]);
    if (more === "") continue;
    now[field] = next[field];
    emit({ type, text: more });
  }
  next.toolCalls.forEach((call, index) => {
    const before = known.toolCalls[index];
    const more = extension(before?.arguments ?? "", call.arguments);
    const mayGrow = !isWhole && index === next.toolCalls.length - 1 && call.arguments === "";
    if (before === undefined && (call.name === "" || mayGrow)) return;
    if (before !== undefined && more === "") return;
    now.toolCalls[index] = before === undefined ? call : { ...before, arguments: before.arguments + more };
    emit({ type: "toolCall", index, id: call.id, name: call.name, arguments: more });
  });
  return now;
}

/** What `next` goes on with; nothing where it is not a continuation: what was emitted cannot be taken back. */
function extension(before: string, next: string): string {
  return next.startsWith(before) ? next.slice(before.length) : "";
}
