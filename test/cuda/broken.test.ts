// Asynchronous copies, barriers in shared memory and matrix instructions, used wrongly in one way each: what a GPU may or may not
// show, the emulation has to find every time.

import assert from "node:assert/strict";
import { cudaTest, emulation, kernels, type Fault } from "./cuda-emulation.js";

const runDefect = (name: string) => kernels<{ runDefect(name: string): number }>().runDefect(name);

/** For some, threads that run in another order meet the defect at another place first. */
const defects: Record<string, Fault | Fault[]> = {
  CopyNotWaitedFor: "race",
  CopyNotCommitted: "race",
  CopyWaitedForTooFew: "race",
  CopySeenWithoutBarrier: "race",
  CopyOverWhatIsRead: "race",
  MatrixBeforeBarrier: "race",
  MatrixRowMisaligned: "misaligned",
  BoxNotWaitedFor: "race",
  BoxNeverWaitedFor: "misuse",
  BoxWaitedForByOne: "race",
  BoxOverWhatIsRead: ["race", "deadlock"],
  BoxOverOrdinaryStores: "missing fence",
  BarrierExpectsTooMuch: "deadlock",
  BarrierExpectsTooLittle: ["misuse", "deadlock"],
  BarrierMissesAnArrival: "deadlock",
  BarrierWaitedForWithWrongParity: ["race", "uninitialized", "deadlock"],
  BarrierUsedBeforeItIsThere: ["race", "uninitialized"],
  BarrierNotFenced: "missing fence",
  BarrierOverwritten: "misuse",
  StoreWithoutFence: "missing fence",
  StoreOverwritten: "race",
  StoreNotWaitedFor: "misuse",
  BoxMisaligned: "misaligned",
  BoxFromAnyElement: "misaligned",
  NamedBarrierOfTooMany: "deadlock",
  ProductOfOrdinaryStores: "missing fence",
  ProductWithoutBarrier: "race",
  ProductOverwritten: "race",
  ProductNotFenced: "missing fence",
  ProductNotWaitedFor: "misuse",
  ProductOfDifferentMatrices: "divergence",
  RemoteBeforeBarrier: "race",
  RemoteBlockEnds: "misuse",
};

describe("cuda defects", () => {
  for (const name of ["BoxWhole", "ProductWhole"]) {
    cudaTest(`cuda defects: none in ${name}`, () => assert.equal(runDefect(name), 0));
  }
  for (const [name, faults] of Object.entries(defects)) {
    cudaTest(`cuda defects: ${name} is found (${[faults].flat().join(" or ")})`, (random) => {
      for (let order = 0; order < 5; order++) {
        emulation!.setSeed(Math.floor(random() * 2 ** 31));
        assert.throws(
          () => runDefect(name),
          (error: Error & { fault?: Fault }) => {
            assert.ok([faults].flat().includes(error.fault!), error.message);
            return true;
          },
        );
      }
    });
  }
});
