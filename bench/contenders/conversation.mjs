// A conversation: each turn's prompt is all that was said before and some words more.

import { median } from "../report/stats.mjs";
import { words } from "./job.mjs";

/**
 * @param {(prompt: number[], seed: number) => Promise<{ first: number, tokens: number[] }>} answer
 * @returns milliseconds to the first token: of the first turn, of those after it, and of the last
 */
export async function conversation({ turns, userTokens }, answer) {
  const history = [];
  const times = [];
  for (let turn = 0; turn < turns; turn++) {
    history.push(...words(userTokens, turn + 2));
    const { first, tokens } = await answer(history, turn);
    history.push(...tokens);
    times.push(first);
  }
  return { "first turn": times[0], "later turns": median(times.slice(1)), "last turn": times.at(-1) };
}
