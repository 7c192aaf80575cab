// Quantizing on a GPU, run in the emulation: the bytes are ggml's own.

import assert from "node:assert/strict";
import { cudaTest, kernels } from "./cuda-emulation.js";

interface Quantize {
  patternRows(count: number, largest: number, seed: number): Float32Array;
  narrowRows(type: number, values: Float32Array): Uint8Array;
  quantizeRows(from: number, to: number, source: Uint8Array, out: Uint8Array): number;
  dequantizeRows(from: number, to: number, blocks: Uint8Array, out: Uint8Array): void;
  ggmlQuantize(type: number, values: Float32Array): Uint8Array;
  ggmlDequantize(type: number, blocks: Uint8Array): Float32Array;
}

/** ggml's number, values of a block, bytes of a block. */
const types: Record<string, [number, number, number]> = {
  Q8_0: [8, 32, 34],
  Q4_0: [2, 32, 18],
  Q4_1: [3, 32, 20],
  Q5_0: [6, 32, 22],
  Q5_1: [7, 32, 24],
  IQ4_NL: [20, 32, 18],
  Q4_K: [12, 256, 144],
  Q5_K: [13, 256, 176],
  Q6_K: [14, 256, 210],
};
const sources: Record<string, number> = { F32: 0, F16: 1, BF16: 30 };
const poison = 0xcd;
const guard = 64;

const seedOf = (random: () => number) => Math.floor(random() * 2 ** 31);

/** Numbers of blocks that end in the middle of what one thread block does, and not. */
const counts = (random: () => number, size: number) =>
  [1, 7, 8, 9, 64, Math.ceil(random() * 300)].map((count) => count * (size === 256 ? 1 : 8) + (size === 256 ? 0 : 3));

describe("cuda quantize", () => {
  for (const [name, [type, values, bytes]] of Object.entries(types)) {
    for (const [sourceName, source] of Object.entries(sources)) {
      cudaTest(`cuda quantize: ${sourceName} to ${name} is what ggml makes of it`, (random) => {
        const cuda = kernels<Quantize>();
        for (const blocks of counts(random, values)) {
          const rows = cuda.patternRows(blocks * values, 6e4, seedOf(random));
          const input = cuda.narrowRows(source, rows);
          const out = new Uint8Array(blocks * bytes + guard).fill(poison);
          assert.equal(cuda.quantizeRows(source, type, input, out), 0);
          const expected = cuda.ggmlQuantize(type, rows);
          for (let block = 0; block < blocks; block++) {
            assert.deepEqual(
              out.subarray(block * bytes, (block + 1) * bytes),
              expected.subarray(block * bytes, (block + 1) * bytes),
              `block ${block} of ${blocks}`,
            );
          }
          assert.ok(out.subarray(blocks * bytes).every((byte) => byte === poison));
        }
      });
    }

    for (const target of ["F32", "F16"]) {
      cudaTest(`cuda quantize: ${name} to ${target} is what ggml makes of it`, (random) => {
        const cuda = kernels<Quantize>();
        for (const blocks of counts(random, values)) {
          const input = cuda.ggmlQuantize(type, cuda.patternRows(blocks * values, 6e4, seedOf(random)));
          const expected = cuda.narrowRows(sources[target]!, cuda.ggmlDequantize(type, input));
          const out = new Uint8Array(expected.length + guard).fill(poison);
          cuda.dequantizeRows(type, sources[target]!, input, out);
          assert.deepEqual(out.subarray(0, expected.length), expected);
          assert.ok(out.subarray(expected.length).every((byte) => byte === poison));
        }
      });
    }

    cudaTest(`cuda quantize: values that ${name} cannot hold are told`, (random) => {
      const cuda = kernels<Quantize>();
      const blocks = 37;
      for (const [sourceName, source] of Object.entries(sources)) {
        for (const bad of [NaN, Infinity, -Infinity, 2 ** 32, -1e30]) {
          const rows = cuda.patternRows(blocks * values, 1, seedOf(random));
          rows[Math.floor(random() * rows.length)] = bad; // in F16 an infinity
          const out = new Uint8Array(blocks * bytes + guard).fill(poison);
          const refusals = cuda.quantizeRows(source, type, cuda.narrowRows(source, rows), out);
          assert.equal(refusals & 1, 1, `${bad} of ${sourceName}`);
          assert.ok(out.subarray(blocks * bytes).every((byte) => byte === poison));
        }
      }
    });

    cudaTest(`cuda quantize: a scale that is too large for ${name} is told`, (random) => {
      const cuda = kernels<Quantize>();
      const rows = cuda.patternRows(5 * values, 1, seedOf(random));
      rows[Math.floor(random() * rows.length)] = -(2 ** 31);
      const out = new Uint8Array(5 * bytes);
      assert.equal(cuda.quantizeRows(0, type, cuda.narrowRows(0, rows), out), 2);
    });
  }
});
