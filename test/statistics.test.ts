import assert from "node:assert/strict";
import fc from "fast-check";
import { normalize, wordF1 } from "../lib/evaluation/answers.js";
import { Moments, quantile, wilson } from "../lib/evaluation/statistics.js";

const near = (actual: number, expected: number, most = 1e-9) =>
  assert.ok(Math.abs(actual - expected) <= most * Math.max(1, Math.abs(expected)), `${actual}, ${expected}`);

describe("statistics of evaluations", () => {
  it("has the mean and the standard error of any numbers", () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { minLength: 2, maxLength: 50 }),
        (numbers) => {
          const moments = new Moments();
          for (const one of numbers) moments.add(one);
          const mean = numbers.reduce((sum, one) => sum + one, 0) / numbers.length;
          const squares = numbers.reduce((sum, one) => sum + (one - mean) ** 2, 0);
          near(moments.mean, mean);
          near(moments.standardError, Math.sqrt(squares / (numbers.length - 1) / numbers.length), 1e-6);
        },
      ),
    );
  });

  it("has Wilson's interval", () => {
    // R's prop.test(10, 20, correct = FALSE) and prop.test(0, 10, …).
    const half = wilson(10, 20);
    near(half.low, 0.2992980081, 1e-8);
    near(half.high, 0.7007019919, 1e-8);
    const none = wilson(0, 10);
    near(none.low, 0);
    near(none.high, 0.2775327999, 1e-8);
    assert.deepEqual([wilson(7, 7).value, wilson(7, 7).high], [1, 1]);
    assert.deepEqual([wilson(0, 0).low, wilson(0, 0).high], [0, 1]);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1000 }), fc.double({ min: 0, max: 1, noNaN: true }), (trials, share) => {
        const yes = Math.round(share * trials);
        const { value, low, high } = wilson(yes, trials);
        assert.ok(low >= 0 && low <= value && value <= high && high <= 1);
        // Both ends are where a test of that share would just not be rejected.
        for (const end of [low, high]) {
          if (end === 0 || end === 1) continue;
          near(Math.abs(value - end), 1.959963984540054 * Math.sqrt((end * (1 - end)) / trials), 1e-9);
        }
      }),
    );
  });

  it("has quantiles between the numbers", () => {
    const sorted = Float64Array.from([1, 2, 4, 8]);
    assert.deepEqual(
      [0, 0.5, 1, 1 / 3].map((share) => quantile(sorted, share)),
      [1, 3, 8, 2],
    );
    assert.equal(quantile(Float64Array.of(5), 0.9), 5);
  });

  it("compares answers as SQuAD's evaluation does", () => {
    assert.equal(normalize(" The  Cat, (a) dog; and an owl!"), "cat dog and owl");
    assert.equal(wordF1("the cat sat", "A cat sat down"), (2 * 2) / (2 + 3));
    assert.equal(wordF1("cat cat", "cat"), 2 / 3);
    assert.deepEqual([wordF1("", "the"), wordF1("x", "")], [1, 0]);
  });
});
