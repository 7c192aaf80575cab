// Cells of a sequence out of a KV cache and back, run in the emulation, compared with plain loops and with ggml's blocks.

import assert from "node:assert/strict";
import { cudaTest, emulation, kernels } from "./cuda-emulation.js";

interface Kv {
  kvCases(): string[];
  moveCells(name: string, order: number, seed: number): string;
}

describe("cuda KV cache", () => {
  const orders = ["in a row", "with gaps", "in any order"];
  for (const name of emulation === undefined ? ["cells"] : kernels<Kv>().kvCases()) {
    for (const [order, description] of orders.entries()) {
      cudaTest(`cuda KV cache: ${name}, ${description}`, (random) => {
        assert.equal(kernels<Kv>().moveCells(name, order, Math.floor(random() * 2 ** 31)), "");
      });
    }
  }
});
