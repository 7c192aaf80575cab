// Lets the contenders of a case take turns.

import { judge } from "../report/targets.mjs";
import { median } from "../report/stats.mjs";

/**
 * A case is one table:
 * - `title`
 * - `metrics`: by name, `{ unit }`
 * - `contenders`: by name, a function that measures once and resolves to numbers by metric. One that fails is left out
 *   from then on, and the reason is kept.
 * - `absent`: by name, why a contender that belongs here is not among them
 * - `targets`: see report/targets.mjs
 */
export async function runCase({ title, metrics, contenders, absent = {}, targets = [] }, rounds, log) {
  const names = Object.keys(contenders);
  const samples = Object.fromEntries(names.map((name) => [name, {}]));
  const missing = { ...absent };
  for (let round = 0; round < rounds; round++) {
    // Each round begins with another one, so that nobody always comes after the same neighbour.
    const order = names.map((_, i) => names[(i + round) % names.length]);
    for (const name of order.filter((name) => !(name in missing))) {
      log(`${title}: round ${round + 1} of ${rounds}: ${name}`);
      try {
        const measured = await contenders[name]();
        for (const metric of Object.keys(metrics)) {
          if (Number.isFinite(measured[metric])) (samples[name][metric] ??= []).push(measured[metric]);
        }
      } catch (error) {
        missing[name] = error.message;
        delete samples[name];
      }
    }
  }
  const medians = Object.fromEntries(Object.entries(samples).map(([name, of]) => [name, mediansOf(of)]));
  return { title, metrics, samples, absent: missing, targets: targets.map((target) => judge(target, medians)) };
}

const mediansOf = (samples) =>
  Object.fromEntries(Object.entries(samples).map(([metric, values]) => [metric, median(values)]));
