import assert from "node:assert/strict";
import { testing } from "./testing-addon.js";

/** Steps, of each of which so many tokens would be guessed right. */
const steps = (count: number, right: number) => new Array<number>(count).fill(right);
const sum = (numbers: number[]) => numbers.reduce((a, b) => a + b, 0);

describe("GuessLength", () => {
  it("guesses ever more while guesses are right", () => {
    assert.deepEqual(testing.guessLength(steps(6, 64)), [4, 8, 16, 32, 64, 64]);
  });

  it("guesses as much as was right", () => {
    assert.deepEqual(testing.guessLength([3, 64, 64, 1, 64]), [4, 3, 6, 12, 1]);
  });

  it("guesses ever less often where guesses are wrong, and then little", () => {
    const guesses = testing.guessLength(steps(1000, 0));
    assert.deepEqual(guesses.slice(0, 18), [4, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert.ok(sum(guesses) < 40, `${sum(guesses)}`);
  });

  it("is back at once when they are right again", () => {
    const guesses = testing.guessLength([...steps(300, 0), ...steps(200, 64)]).slice(300);
    const first = guesses.findIndex((guess) => guess > 0);
    assert.ok(first <= 64);
    assert.deepEqual(guesses.slice(first, first + 6), [1, 2, 4, 8, 16, 32]);
  });

  it("goes on where every other guess is right", () => {
    const guesses = testing.guessLength(Array.from({ length: 100 }, (_, i) => (i % 2 === 0 ? 1 : 0)));
    assert.ok(guesses.every((guess) => guess > 0));
  });
});
