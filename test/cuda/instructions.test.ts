// What the emulation makes of each of the functions of native/cuda/device: what their comments say.

import assert from "node:assert/strict";
import { cudaTest, emulation } from "./cuda-emulation.js";

interface Instructions {
  instructionCases(): string[];
  checkInstruction(name: string, seed: number): string;
}
const instructions = emulation as unknown as Instructions | undefined;

describe("cuda instructions", () => {
  for (const name of instructions?.instructionCases() ?? []) {
    cudaTest(`cuda instructions: ${name}`, (random) => {
      assert.equal(instructions!.checkInstruction(name, Math.floor(random() * 2 ** 31)), "");
    });
  }
});
