// Blocks quantized several at a time beside ggml's own code, bit by bit.

import assert from "node:assert/strict";
import fc from "fast-check";
import { testing } from "./testing-addon.js";

const WIDE = testing.availableInstructions().filter((instructions) => instructions !== "any");

/** Rows are multiples of these. */
const BLOCK: Readonly<Record<string, number>> = {
  q4_0: 32, q4_1: 32, q5_0: 32, q5_1: 32, q8_0: 32, q2_K: 256, q3_K: 256, q4_K: 256, q5_K: 256, q6_K: 256,
}; // prettier-ignore

/** What weights can be like, by blocks: usual ones, all alike, of one sign, tiny, huge, next to denormal. */
const KINDS: readonly ((random: () => number) => number)[] = [
  (random) => (random() - 0.5) * 0.1,
  (random) => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()) * 0.02,
  () => 0,
  (random) => (random() < 0.5 ? 0 : -0),
  () => 0.25,
  () => -0.25,
  (random) => random() * 3,
  (random) => -random() * 3,
  (random) => (random() - 0.5) * 1e-20,
  (random) => (random() - 0.5) * 1e-42,
  (random) => (random() - 0.5) * 6e4,
  (random) => (random() < 0.05 ? 100 : 1) * (random() - 0.5),
  (random) => (random() < 0.5 ? 1 : -1) * 0.5,
  (random) => Math.round(random() * 4) / 4,
];

/** xorshift32: a few million numbers a second, the same ones for a seed. */
function generator(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

function randomRows(seed: number, rows: number, columns: number): Float32Array {
  const random = generator(seed);
  const values = new Float32Array(rows * columns);
  // Kinds change within blocks of 256, and at their borders.
  for (let i = 0; i < values.length; i += 16) {
    const kind = KINDS[Math.floor(random() * KINDS.length)]!;
    const run = random() < 0.5 ? 16 : 256;
    for (let k = 0; k < run && i + k < values.length; k++) values[i + k] = kind(random);
    i += run - 16;
  }
  return values;
}

describe("quantizing rows", () => {
  for (const [type, block] of Object.entries(BLOCK)) {
    for (const weighted of [false, true]) {
      it(`${type}${weighted ? ", with importance" : ""}: is what ggml makes, whatever the instructions`, () => {
        fc.assert(
          fc.property(
            fc.integer(),
            fc.integer({ min: 1, max: 7 }),
            fc.integer({ min: 1, max: 5 }),
            (seed, rows, blocks) => {
              const columns = blocks * block;
              const values = randomRows(seed, rows, columns);
              const random = generator(seed ^ 0x5bd1e995);
              const importance = weighted
                ? Float32Array.from({ length: columns }, () => (random() < 0.1 ? 0 : random() * 50))
                : undefined;
              const expected = testing.quantizeRows(type, values, columns, importance, "any");
              for (const instructions of WIDE) {
                const result = testing.quantizeRows(type, values, columns, importance, instructions);
                assert.deepEqual(Buffer.from(result.bytes), Buffer.from(expected.bytes), instructions);
                assert.equal(result.valid, expected.valid);
              }
            },
          ),
          { numRuns: 120 },
        );
      });
    }
  }

  it("widens F16 as ggml does, all of them, and finds NaN and infinity anywhere", () => {
    const finite = Uint16Array.from({ length: 65536 }, (_, i) => i).filter((bits) => (bits & 0x7c00) !== 0x7c00);
    const bytes = (halves: Uint16Array) => new Uint8Array(halves.buffer, halves.byteOffset, halves.byteLength);
    const expected = testing.widenRow("f16", bytes(finite), finite.length, "any");
    assert.equal(expected.finite, true);
    for (const instructions of WIDE) {
      assert.deepEqual(testing.widenRow("f16", bytes(finite), finite.length, instructions), expected);
      for (const bad of [0x7c00, 0xfc00, 0x7e00, 0xfe01]) {
        for (const at of [0, 1, 7, 8, 30, 32]) {
          const halves = new Uint16Array(33);
          halves[at] = bad;
          assert.equal(testing.widenRow("f16", bytes(halves), 33, instructions).finite, false);
        }
      }
    }
  });
});
