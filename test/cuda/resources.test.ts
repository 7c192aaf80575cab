// Our kernels compile for every architecture without warnings, and none has begun to spill registers. Without nvcc that cannot be
// told, and is skipped.

import assert from "node:assert/strict";
import {
  ARCHITECTURES,
  compare,
  compileKernels,
  NO_NVCC,
  parseReport,
  readTable,
} from "../../scripts/cuda-kernels.mjs";
import { findNvcc } from "../../scripts/cuda-toolkit.mjs";

describe("cuda resources", () => {
  it("cuda resources: the assembler's report is read", () => {
    const report = `ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN9coldstart4cuda6KernelILi3EfEEvPKfj' for 'sm_80'
ptxas info    : Function properties for _ZN9coldstart4cuda6KernelILi3EfEEvPKfj
    64 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 64 bytes cumulative stack size, 256 bytes smem, 392 bytes cmem[0]
ptxas info    : Compiling entry function '_Z5plainv' for 'sm_80'
ptxas info    : Function properties for _Z5plainv
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers`;
    assert.deepEqual(parseReport(report), { "Kernel<3, float>": [40, 64, 28, 256], plain: [8, 0, 0, 0] });
  });

  it("cuda resources: a new spill and a new stack frame fail, more registers do not", () => {
    const recorded = { a: { sm_80: [40, 0, 0, 0] }, b: { sm_80: [40, 16, 8, 0] } };
    assert.deepEqual(compare("80", { a: [48, 0, 0, 0], b: [40, 16, 8, 0] }, recorded).failures, []);
    const worse = compare("80", { a: [40, 0, 4, 0], b: [40, 24, 8, 0], c: [10, 8, 0, 0] }, recorded).failures;
    assert.deepEqual(worse, [
      "a on sm_80: 4 bytes of spills, 0 before",
      "b on sm_80: 24 bytes of stack, 16 before",
      "c on sm_80: 8 bytes of stack, 0 before",
    ]);
  });

  for (const arch of ARCHITECTURES) {
    it(`cuda resources: all kernels for sm_${arch}, as recorded`, async function () {
      this.timeout(3600_000);
      if (findNvcc() === undefined) {
        console.log(`      ${NO_NVCC}`);
        return this.skip();
      }
      const { failures, resources } = await compileKernels(arch);
      assert.deepEqual(failures, []);
      assert.deepEqual(compare(arch, resources, readTable()).failures, []);
    });
  }
});
