// The radix trees beside a plain list of sequences.

import assert from "node:assert/strict";
import fc from "fast-check";
import { type PrefixMatch, type PrefixTreeOperation, testing } from "./testing-addon.js";

/** The same answers, by looking at every sequence. */
class ListOfSequences {
  readonly #sequences = new Map<number, number[]>();
  readonly #roots = new Map<number, number>();

  #size(without?: number): number {
    const prefixes = new Set<string>();
    for (const [holder, tokens] of this.#sequences) {
      if (holder === without) continue;
      const root = this.#roots.get(holder);
      for (let length = 1; length <= tokens.length; length++)
        prefixes.add(`${root}: ${tokens.slice(0, length).join()}`);
    }
    return prefixes.size;
  }

  #of(root: number | undefined): [number, number[]][] {
    return [...this.#sequences].filter(([holder]) => this.#roots.get(holder) === root);
  }

  answer([name, holder, argument, root]: PrefixTreeOperation): number | PrefixMatch {
    const own = this.#sequences.get(holder);
    switch (name) {
      case "append":
        if (own === undefined) this.#roots.set(holder, root);
        this.#sequences.set(holder, [...(own ?? []), ...argument]);
        return this.#size();
      case "truncate":
        if (own) own.length = Math.min(own.length, argument);
        return this.#size();
      case "erase":
        this.#sequences.delete(holder);
        return this.#size();
      case "length":
        return own?.length ?? 0;
      case "exclusive":
        return own ? this.#size() - this.#size(holder) : 0;
      case "longest": {
        const common = (tokens: number[]) => {
          const end = tokens.findIndex((token, i) => token !== argument[i]);
          return end === -1 ? tokens.length : end;
        };
        const lengths = this.#of(root).map(([other, tokens]) => ({ other, length: common(tokens) }));
        const length = Math.max(0, ...lengths.map((match) => match.length));
        const best = length === 0 ? [] : lengths.filter((match) => match.length === length);
        return { length, holders: best.map(({ other }) => other).sort() };
      }
      case "longestWhole": {
        const whole = this.#of(root).filter(
          ([, tokens]) => tokens.length > 0 && tokens.every((token, i) => token === argument[i]),
        );
        const length = Math.max(0, ...whole.map(([, tokens]) => tokens.length));
        return {
          length,
          holders: whole
            .filter(([, tokens]) => tokens.length === length)
            .map(([other]) => other)
            .sort(),
        };
      }
    }
  }
}

const holder = fc.nat(4);
const tree = fc.nat(1);
/** Few different tokens, so that sequences have much in common. */
const tokens = fc.array(fc.integer({ min: 7, max: 8 }), { maxLength: 6 }).map((list) => Int32Array.from(list));
const operation: fc.Arbitrary<PrefixTreeOperation> = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(fc.constant("append" as const), holder, tokens, tree) },
  { weight: 2, arbitrary: fc.tuple(fc.constant("truncate" as const), holder, fc.nat(8)) },
  fc.tuple(fc.constantFrom("erase" as const, "length" as const, "exclusive" as const), holder),
  fc.tuple(fc.constantFrom("longest" as const, "longestWhole" as const), fc.constant(-1 as const), tokens, tree),
);

describe("PrefixTree", () => {
  it("answers as a list of sequences does, whatever is done to it", () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60, size: "max" }), (operations) => {
        const answers = testing
          .prefixTree(operations)
          .map((answer) => (typeof answer === "number" ? answer : { ...answer, holders: answer.holders.sort() }));
        const list = new ListOfSequences();
        assert.deepEqual(
          answers,
          operations.map((one) => list.answer(one)),
        );
      }),
      { numRuns: 2000 },
    );
  });
});
