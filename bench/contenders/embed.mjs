// What the scripts that embed texts share.

import { medians } from "../report/stats.mjs";
import { job, report } from "./job.mjs";

const WORDS = "the and was his her with they went once upon time girl boy dog house play happy friend".split(" ");

/** Texts that differ from round to round. */
function texts(round) {
  let state = (round + 2) * 2654435761;
  const next = (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) % below;
  };
  const [least, most] = job.words;
  return Array.from({ length: job.texts }, () =>
    Array.from({ length: least + next(most - least + 1) }, () => WORDS[next(WORDS.length)]).join(" "),
  );
}

/**
 * Measures and reports.
 * @param {(texts: string[]) => Promise<ArrayLike<number>[]>} embed
 */
export async function measure(embed, end) {
  await embed(texts(-1));
  const rounds = [];
  for (let round = 0; round < job.repeat; round++) {
    const given = texts(round);
    const started = performance.now();
    const vectors = await embed(given);
    const seconds = (performance.now() - started) / 1000;
    if (vectors.length !== given.length || vectors.some((vector) => vector.length !== 384))
      throw new Error("no vectors");
    rounds.push({ texts: given.length / seconds });
  }
  await end();
  await report(medians(rounds));
}
