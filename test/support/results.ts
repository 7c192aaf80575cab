// Comparing what was generated with what it should be.

import assert from "node:assert/strict";
import type { GenerationResult } from "../../lib/index.js";

/**
 * That the result has the tokens of `expected`, or the first of them. Both must have log-probabilities.
 *
 * Sums are rounded otherwise where more tokens are computed together: where one of two tokens that are as likely was taken, the
 * other one is right, too, and what follows is another text.
 */
export function assertSame(result: GenerationResult, expected: GenerationResult, what = ""): void {
  for (const [i, { token, top }] of result.logprobs!.entries()) {
    const other = expected.logprobs![i]!;
    for (const candidate of top) {
      const same = other.top.find((one) => one.token === candidate.token);
      if (same !== undefined) assert.ok(Math.abs(same.logprob - candidate.logprob) < 0.01, `${what}, token ${i}`);
    }
    assert.ok(top.length > 0 && other.top.some((one) => one.token === top[0]!.token), `${what}, token ${i}`);
    if (token !== other.token) return;
  }
}
