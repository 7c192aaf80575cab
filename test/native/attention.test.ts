// Attention of the CPU, which patches/ rewrites, beside sums in F64.

import assert from "node:assert/strict";
import { testing, type AttentionInput } from "./testing-addon.js";

/** Deterministic noise from -1 to 1 (Numerical Recipes' LCG). */
function noise(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}

function randomInput(
  shape: Omit<AttentionInput, "q" | "k" | "v" | "shown" | "threads">,
  share: number,
): AttentionInput {
  const { headSize, tokens, positions, heads, keyValueHeads } = shape;
  const random = noise(tokens * 31 + positions * 7 + headSize);
  const fill = (length: number, scale: number) => Float32Array.from({ length }, () => random() * scale);
  const shown = Uint8Array.from({ length: tokens * positions }, () => (random() < 2 * share - 1 ? 1 : 0));
  // A whole row masked gives 0, which a sum in F64 would give as NaN.
  for (let t = 0; t < tokens; t++) shown[t * positions + ((t * 37) % positions)] = 1;
  return {
    ...shape,
    q: fill(heads * tokens * headSize, 2),
    k: fill(keyValueHeads * positions * headSize, 2),
    v: fill(keyValueHeads * positions * headSize, 1),
    shown,
    threads: 1,
  };
}

function attentionInF64({
  headSize,
  tokens,
  positions,
  heads,
  keyValueHeads,
  q,
  k,
  v,
  shown,
}: AttentionInput): Float64Array {
  const out = new Float64Array(tokens * heads * headSize);
  for (let t = 0; t < tokens; t++) {
    for (let h = 0; h < heads; h++) {
      const rowOfQ = (h * tokens + t) * headSize;
      const firstOfKv = Math.floor(h / (heads / keyValueHeads)) * positions * headSize;
      const scores = Array.from({ length: positions }, (_, p) => {
        if (shown[t * positions + p] === 0) return -Infinity;
        let dot = 0;
        for (let d = 0; d < headSize; d++) dot += q[rowOfQ + d]! * k[firstOfKv + p * headSize + d]!;
        return dot / Math.sqrt(headSize);
      });
      const largest = Math.max(...scores);
      const weights = scores.map((score) => Math.exp(score - largest));
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      weights.forEach((weight, p) => {
        for (let d = 0; d < headSize; d++)
          out[(t * heads + h) * headSize + d]! += (weight / total) * v[firstOfKv + p * headSize + d]!;
      });
    }
  }
  return out;
}

const largestError = (got: Float32Array, expected: Float64Array) =>
  got.reduce((largest, value, i) => Math.max(largest, Math.abs(value - expected[i]!)), 0);

describe("attention", () => {
  // The largest error allowed: what rounding K, V (and Q, for F16) to the type costs, not what summing does.
  for (const [type, tolerance] of [
    ["f32", 2e-6],
    ["f16", 2e-3],
    ["q8_0", 2e-2],
  ] as const) {
    for (const tokens of [1, 3, 20, 63, 70]) {
      for (const [positions, share] of [
        [1, 1],
        [63, 1],
        [256, 0.9],
        [511, 0.5],
        [700, 0.03],
        [1500, 0.002],
      ] as const) {
        it(`of ${tokens} tokens over ${positions} positions, ${share} of them shown, in ${type}`, () => {
          for (const headSize of type === "q8_0" ? [64] : [16, 64, 80]) {
            const input = randomInput({ headSize, tokens, positions, heads: 4, keyValueHeads: 2, type }, share);
            const error = largestError(testing.attention(input), attentionInF64(input));
            assert.ok(error <= tolerance, `head size ${headSize}: off by ${error}`);
          }
        });
      }
    }
  }

  /** Rows of as many sequences, which have a beginning in common and then take turns in the cache. */
  function sequencesInOneCache(tokens: number, shared: number, own: number, headSize = 64): AttentionInput {
    const positions = shared + own * tokens;
    const shape = { headSize, tokens, positions, heads: 4, keyValueHeads: 2, type: "f16" };
    const input = randomInput(shape, 0);
    for (let t = 0; t < tokens; t++) {
      for (let p = 0; p < positions; p++) {
        input.shown[t * positions + p] = p < shared || (p - shared) % tokens === t ? 1 : 0;
      }
    }
    return input;
  }

  for (const tokens of [8, 16, 40, 64, 100]) {
    for (const [shared, own] of [
      [0, 30],
      [300, 5],
      [64, 1],
    ] as const) {
      it(`of ${tokens} sequences with ${shared} positions in common and ${own} of their own`, () => {
        for (const headSize of [16, 80]) {
          const input = sequencesInOneCache(tokens, shared, own, headSize);
          const got = testing.attention(input);
          const error = largestError(got, attentionInF64(input));
          assert.ok(error <= 2e-3, `head size ${headSize}: off by ${error}`);
          for (const threads of [2, 3, 8]) assert.deepEqual(testing.attention({ ...input, threads }), got);
        }
      });
    }
  }

  it("of a prompt, where each token sees those before it, is the same with any number of threads", () => {
    for (const tokens of [17, 64, 130, 200]) {
      const shape = { headSize: 64, tokens, positions: 256, heads: 4, keyValueHeads: 2, type: "f16" };
      const input = randomInput(shape, 1);
      for (let i = 0; i < input.shown.length; i++) input.shown[i] = i % 256 <= Math.floor(i / 256) ? 1 : 0;
      const got = testing.attention(input);
      assert.ok(largestError(got, attentionInF64(input)) <= 2e-3);
      for (const threads of [2, 3]) assert.deepEqual(testing.attention({ ...input, threads }), got);
    }
  });

  it("of one token is the same bit by bit with any number of threads", () => {
    for (const positions of [300, 512, 1000, 2049]) {
      const shape = { headSize: 64, tokens: 1, positions, heads: 6, keyValueHeads: 3, type: "f16" };
      const input = randomInput(shape, 0.7);
      const alone = testing.attention(input);
      for (const threads of [2, 3, 8]) assert.deepEqual(testing.attention({ ...input, threads }), alone);
    }
  });

  it("of rows that are masked whole is 0", () => {
    const input = randomInput({ headSize: 32, tokens: 1, positions: 600, heads: 2, keyValueHeads: 2, type: "f16" }, 1);
    input.shown.fill(0);
    assert.ok(testing.attention(input).every((value) => value === 0));
  });
});
