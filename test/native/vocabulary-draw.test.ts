// A token drawn without sorting the vocabulary beside one drawn after sorting it, in F64.

import assert from "node:assert/strict";
import fc from "fast-check";
import { testing } from "./testing-addon.js";

interface Options {
  temperature: number;
  topP: number;
  minP: number;
}

/** The tokens in llama.cpp's order, and the random number up to which each of them is drawn. */
function reference(logits: Float32Array, { temperature, topP, minP }: Options): { token: number; upTo: number }[] {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const least = minP > 0 ? Math.fround(largest + Math.fround(Math.log(Math.fround(minP)))) : -Infinity;
  let tokens = [...logits.keys()];
  if (topP < 1) {
    tokens.sort((a, b) => logits[b]! - logits[a]! || a - b);
    const share = (token: number) => Math.exp(logits[token]! - largest);
    let left = Math.fround(topP) * tokens.reduce((sum, token) => sum + share(token), 0);
    const end = tokens.findIndex((token) => (left -= share(token)) <= 0);
    if (end !== -1) tokens = tokens.slice(0, end + 1);
  }
  tokens = tokens.filter((token) => logits[token]! >= least);
  const weights = tokens.map((token) => Math.exp((logits[token]! - largest) / temperature));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let sum = 0;
  return tokens.map((token, i) => ({ token, upTo: (sum += weights[i]!) / total }));
}

/** Logits from flat to all but certain, with ties and without; some banned. */
const logits = fc
  .record({
    size: fc.constantFrom(1, 2, 63, 64, 65, 700, 1024, 3000),
    spread: fc.constantFrom(0, 0.1, 1, 5, 40),
    steps: fc.constantFrom(3, 2 ** 24),
    banned: fc.constantFrom(0, 0.1, 0.9),
    seed: fc.nat(),
  })
  .map(({ size, spread, steps, banned, seed }) => {
    let state = seed >>> 0;
    const noise = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
    const values = Float32Array.from({ length: size }, () =>
      noise() < banned ? -Infinity : (Math.floor(noise() * steps) / steps) ** 3 * spread - 3,
    );
    values[Math.floor(noise() * size)] = spread / 2;
    return values;
  });

describe("VocabularyDraw", () => {
  it("draws the tokens that sorting everything gives", () => {
    const options = fc.record<Options>({
      temperature: fc.constantFrom(0.02, 0.5, 1, 1.7, 10),
      topP: fc.constantFrom(1, 0.999, 0.95, 0.5, 0.01),
      minP: fc.constantFrom(0, 1e-4, 0.05, 0.7, 1),
    });
    let checked = 0;
    fc.assert(
      fc.property(logits, options, (values, options) => {
        const ranges = reference(values, options);
        // In the middle of a range, where rounding does not matter; and the outermost numbers.
        const wide = ranges.map(({ token, upTo }, i) => ({ token, from: i === 0 ? 0 : ranges[i - 1]!.upTo, upTo }));
        const chosen = wide.filter(({ from, upTo }) => upTo - from > 1e-5);
        checked += chosen.length;
        const randoms = Float64Array.from(chosen, ({ from, upTo }) => (from + upTo) / 2);
        const { temperature, topP, minP } = options;
        const drawn = testing.drawToken(values, temperature, topP, minP, randoms);
        // Rounding may put one more of the least likely into the nucleus, or one less.
        const near = (token: number, i: number) => {
          const at = chosen.findIndex((range) => range.token === token);
          return chosen[i]!.token === token || (at !== -1 && values[token] === values[chosen[i]!.token]);
        };
        drawn.forEach((token, i) => assert.ok(near(token, i), `${token} instead of ${chosen[i]!.token}`));
        const outermost = testing.drawToken(values, temperature, topP, minP, Float64Array.of(0, 1 - 2 ** -53));
        for (const token of outermost) assert.ok(values[token]! > -Infinity);
      }),
      { numRuns: 400 },
    );
    assert.ok(checked > 10_000);
  });
});
