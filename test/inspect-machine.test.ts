import assert from "node:assert/strict";
import os from "node:os";
import { ColdstartError, inspectMachine, listDevices } from "../lib/index.js";
import { coldstartError } from "./support/errors.js";
import { TINY_STORIES } from "./support/models.js";

describe("inspectMachine()", () => {
  it("says the same of devices as listDevices()", async () => {
    const { devices, cpu, platform } = await inspectMachine();
    const listed = await listDevices();
    assert.deepEqual(
      devices.map(({ name, backend, pciId }) => ({ name, backend, pciId })),
      listed.map(({ name, backend, pciId }) => ({ name, backend, pciId })),
    );
    assert.deepEqual(listed.find(({ backend }) => backend === "CPU")!.cpu, cpu);
    assert.equal(platform, process.platform);
  });

  it("agrees with Node.js about the processor and the memory", async () => {
    const { cpu, memory, diskBandwidth } = await inspectMachine();
    assert.equal(cpu.architecture, os.arch());
    assert.equal(cpu.usableCores, os.availableParallelism());
    assert.ok(cpu.logicalCores >= cpu.usableCores);
    assert.ok((cpu.physicalCores ?? 1) <= cpu.logicalCores && (cpu.sockets ?? 1) <= (cpu.physicalCores ?? 1));
    assert.equal(memory.total, os.totalmem());
    assert.ok(memory.available > 0 && memory.available <= memory.total);
    assert.equal(cpu.memoryBandwidth, undefined, "it is measured on request only");
    assert.equal(diskBandwidth, undefined);
  });

  it("compiled for this processor: the build uses nothing that it lacks", async () => {
    const { cpu } = await inspectMachine();
    for (const set of cpu.instructionSets === undefined ? [] : cpu.compiledFor)
      assert.ok(cpu.instructionSets!.includes(set), set);
  });

  it("measures on request", async function () {
    const { cpu } = await inspectMachine({ memoryBandwidth: true });
    assert.ok(cpu.memoryBandwidth! > 0);
    try {
      assert.ok((await inspectMachine({ disk: TINY_STORIES })).diskBandwidth! > 0);
    } catch (error) {
      // A checkout may lie on a file system in memory, which cannot be read past the page cache.
      if (!(error instanceof ColdstartError && error.code === "LOAD_FAILED")) throw error;
      this.skip();
    }
  });

  it("gives facts that are the caller's own", async () => {
    (await inspectMachine()).cpu.model = "mine";
    assert.notEqual((await inspectMachine()).cpu.model, "mine");
  });

  it("refuses options that make no sense, and disks that are not there", async () => {
    await assert.rejects(inspectMachine({ disk: "no/such/folder" }), coldstartError("MODEL_NOT_FOUND"));
    await assert.rejects(inspectMachine({ disk: "" }), coldstartError("INVALID_OPTION"));
    await assert.rejects(
      inspectMachine({ memory: true } as object),
      coldstartError("INVALID_OPTION", /memoryBandwidth/),
    );
    await assert.rejects(inspectMachine({ memoryBandwidth: 1 } as object), coldstartError("INVALID_OPTION"));
  });
});
