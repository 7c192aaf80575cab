// The largest logits beside sorting all of them.

import assert from "node:assert/strict";
import fc from "fast-check";
import { coldstartError } from "../support/errors.js";
import { testing } from "./testing-addon.js";

/** Few different values, so that there are ties. */
const logit = fc.oneof(
  fc.integer({ min: -5, max: 5 }),
  fc.double({ min: -1e30, max: 1e30, noNaN: true }),
  fc.constant(-Infinity),
);

describe("LogitIndex", () => {
  it("finds what sorting finds, also after updates", () => {
    const logits = fc.array(logit, { minLength: 1, maxLength: 3000, size: "max" });
    const updates = fc.array(fc.tuple(fc.nat(2999), logit), { maxLength: 5 });
    fc.assert(
      fc.property(logits, fc.nat(310), updates, (logits, k, updates) => {
        const values = Float32Array.from(logits);
        fc.pre(values.some((value) => value > -Infinity));
        const within = updates.filter(([token]) => token < values.length);
        const { largest, top } = testing.largestLogits(values, k, within);
        for (const [token, value] of within) values[token] = value;
        const sorted = [...values.keys()].sort((a, b) => {
          const [x, y] = [values[a]!, values[b]!];
          return x === y ? a - b : y - x;
        });
        assert.equal(largest, sorted[0]);
        assert.deepEqual(top, sorted.slice(0, k));
      }),
      { numRuns: 300 },
    );
  });

  it("refuses NaN and +Inf wherever they are, and nothing but -Inf", () => {
    for (const size of [1, 15, 16, 1023, 1024, 1025, 3000]) {
      for (const bad of [NaN, Infinity]) {
        for (const at of [0, size >> 1, size - 1]) {
          const logits = new Float32Array(size);
          logits[at] = bad;
          const message = new RegExp(`logit ${at} is ${Number.isNaN(bad) ? "NaN" : "\\+Inf"}`);
          assert.throws(() => testing.largestLogits(logits, 1, []), coldstartError("NUMERIC_ERROR", message));
        }
      }
      const none = new Float32Array(size).fill(-Infinity);
      assert.throws(() => testing.largestLogits(none, 1, []), coldstartError("NUMERIC_ERROR", /every logit is -Inf/));
    }
  });
});
