// The emulation itself: what is right runs, and each of the broken kernels is found to be broken, for its own reason.

import assert from "node:assert/strict";
import { cudaTest, emulation, kernels, type Fault } from "./cuda-emulation.js";

interface Samples {
  reduceSum(values: Float32Array, out: Float32Array, threads: number): number;
  histogram(values: Uint8Array, counts: Uint32Array, blocks: number): number;
  copyShifted(values: Float32Array, out: Float32Array, readShift: number, writeShift: number): number;
  runBroken(name: string, out: Float32Array): number;
}
const samples = () => kernels<Samples>();

describe("cuda emulation", () => {
  for (const [count, threads, blocks] of [
    [1, 32, 1],
    [1000, 64, 3],
    [4099, 1024, 2],
    [77, 256, 7],
  ] as const) {
    cudaTest(`cuda emulation: sums of ${count} values by ${blocks} blocks of ${threads}`, (random) => {
      // Whole numbers, whose sums are exact in any order.
      const values = Float32Array.from({ length: count }, () => Math.floor(random() * 200) - 100);
      const out = new Float32Array(blocks).fill(NaN);
      assert.equal(samples().reduceSum(values, out, threads), 0);
      assert.equal(
        out.reduce((sum, part) => sum + part, 0),
        values.reduce((sum, value) => sum + value, 0),
      );
    });
  }

  cudaTest("cuda emulation: counts by atomics on shared and global memory", (random) => {
    const values = Uint8Array.from({ length: 5000 }, () => Math.floor(random() ** 3 * 256));
    const counts = new Uint32Array(256);
    assert.equal(samples().histogram(values, counts, 5), 0);
    const expected = new Uint32Array(256);
    for (const value of values) expected[value]!++;
    assert.deepEqual(counts, expected);
  });

  cudaTest("cuda emulation: threads run in any order", () => {
    const last = new Set<number>();
    for (let seed = 0; seed < 20; seed++) {
      emulation!.setSeed(seed);
      const out = new Float32Array(64);
      samples().runBroken("dependsOnOrder", out);
      last.add(out[0]!);
    }
    assert.ok(last.size > 5, `${last.size} different orders of 20`);
  });

  cudaTest("cuda emulation: global memory beyond a buffer cannot be touched", (random) => {
    // A multiple of four, so that the end is that of the page.
    const values = Float32Array.from({ length: 4 * Math.floor(1 + random() * 2000) }, () => random());
    const out = new Float32Array(values.length);
    samples().copyShifted(values, out, 0, 0);
    assert.deepEqual(out, values);
    const bytes = 4 * values.length;
    for (const [readShift, writeShift, message] of [
      [1, 0, new RegExp(`thread \\(\\d+, 0, 0\\) .* touches byte ${bytes} of a buffer of ${bytes} bytes`)],
      [0, 1, new RegExp(`touches byte ${bytes} of a buffer of ${bytes} bytes`)],
      [0, -1, /byte -4 of a buffer of .* was written/],
    ] as const) {
      assert.throws(
        () => samples().copyShifted(values, out, readShift, writeShift),
        (error: Error & { fault?: Fault }) => error.fault === "out of bounds" && message.test(error.message),
      );
    }
  });

  const broken: [kernel: string, fault: Fault, message: RegExp][] = [
    [
      "readsBeforeBarrier",
      "race",
      /thread \(\d+, 0, 0\) of block \(0, 0, 0\) (read|write)s bytes \d+ to \d+ .* no barrier between/,
    ],
    ["writesWhatOthersStillRead", "race", /no barrier between/],
    ["allWriteOneWord", "race", /writes bytes 0 to 3 .* wrote/],
    ["writesAByteTooFar", "race", /writes byte 82 /],
    ["takesShuffleForBarrier", "race", /no barrier between/],
    ["ordersOnlyTheWarp", "race", /no barrier between/],
    ["mixesAtomicAndPlain", "race", /atomically/],
    ["readsWhatNobodyWrote", "uninitialized", /thread \(7, 0, 0\) .* bytes 28 to 31 .* nobody has written/],
    ["writesBeyondTheEnd", "out of bounds", /thread \(63, 0, 0\) .* bytes 256 to 259 .* has 256/],
    ["readsMisaligned", "misaligned", /16 bytes at byte/],
    [
      "endsBeforeBarrier",
      "deadlock",
      /thread \(63, 0, 0\) of block \(0, 0, 0\) has ended; .* 62 more wait in __syncthreads/,
    ],
    ["barrierInBranch", "divergence", /__syncthreads/],
    ["shufflesWithoutALane", "deadlock", /wait in __shfl_xor_sync/],
    ["differentCollectives", "divergence", /while other lanes of its warp are in __/],
    ["shufflesFromALaneThatIsNotThere", "divergence", /reads lane 16/],
  ];
  for (const [kernel, fault, message] of broken) {
    cudaTest(`cuda emulation: ${kernel} is a fault (${fault})`, () => {
      assert.throws(
        () => samples().runBroken(kernel, new Float32Array(64)),
        (error: Error & { fault?: string }) => {
          assert.equal(error.fault, fault, error.message);
          assert.match(error.message, message);
          return true;
        },
      );
    });
  }
});
