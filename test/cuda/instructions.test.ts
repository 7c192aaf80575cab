// What the emulation makes of each of the functions of native/cuda/device: what their comments say.

import assert from "node:assert/strict";
import { cudaTest, emulation, kernels } from "./cuda-emulation.js";

interface Instructions {
  instructionCases(): string[];
  checkInstruction(name: string, seed: number): string;
}

// The names are asked for while the tests are being listed.
const names = emulation === undefined ? [] : kernels<Instructions>().instructionCases();

describe("cuda instructions", () => {
  for (const name of names) {
    cudaTest(`cuda instructions: ${name}`, (random) => {
      assert.equal(kernels<Instructions>().checkInstruction(name, Math.floor(random() * 2 ** 31)), "");
    });
  }
});
