// Kernels that run on the CPU, as native/testing/cuda_*.cc register them in coldstart_cuda_emulation.node. A file for each kernel
// says what it adds:
//
//   interface Quantize { quantize(type: string, values: Float32Array, out: Uint8Array): number; }
//   cudaTest("cuda quantize: ...", (random) => { kernels<Quantize>().quantize(...) });

import fs from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

/** Of an Error, when a kernel did what a GPU leaves undefined. */
export type Fault =
  "race" | "uninitialized" | "out of bounds" | "misaligned" | "deadlock" | "divergence" | "missing fence" | "misuse";

export interface Emulation {
  /** Of the order in which threads run, in all launches that follow. */
  setSeed(seed: number): void;
}

const file =
  process.env.COLDSTART_CUDA_EMULATION ??
  fileURLToPath(new URL("../../build/testing/coldstart_cuda_emulation.node", import.meta.url));

/** Undefined where it is not built (systems other than Linux). COLDSTART_CUDA_EMULATION names another. */
export const emulation = fs.existsSync(file) ? (createRequire(import.meta.url)(file) as Emulation) : undefined;

/** The functions of one kernel's file. Only within a test of cudaTest(). */
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters
export function kernels<T>(): T {
  return emulation as unknown as T;
}

/** A test that needs the emulation, with a seed of its own in each run, which its failure names. */
export function cudaTest(title: string, body: (random: () => number) => void | Promise<void>): void {
  it(title, async function () {
    if (emulation === undefined) {
      const remedy = "node scripts/build.mjs --tool coldstart_cuda_emulation";
      if (process.platform === "linux") throw new Error(`The emulation of CUDA is not built: ${remedy}`);
      return this.skip();
    }
    const seed = Number(process.env.COLDSTART_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
    emulation.setSeed(seed);
    try {
      await body(uniform(seed));
    } catch (error) {
      if (error instanceof Error) error.message += ` [COLDSTART_TEST_SEED=${seed}]`;
      throw error;
    }
  });
}

/** Numbers from 0 to 1, all 32 bits of them drawn (mulberry32). */
function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
