// NVIDIA's management library, played by a real shared library with known answers: test/fixtures/nvml.c.

import assert from "node:assert/strict";
import fc from "fast-check";
import path from "node:path";
import { describeDevices } from "../lib/devices.js";
import { readNvidia, throttleReasons, type NvidiaDriver } from "../lib/machine/nvidia.js";
import { pciKey } from "../lib/machine/pci.js";
import type { NativeDevice } from "../lib/native.js";
import { compiler, LibraryFolder } from "./support/c-library.js";
import { recordedMachine } from "./support/recorded-machine.js";
import { root } from "./support/models.js";

const SOURCE = path.join(root, "test", "fixtures", "nvml.c");

describe("NVML", () => {
  let folder: LibraryFolder | undefined;
  const usual = process.env["COLDSTART_NVML"];

  before(function () {
    if (compiler === undefined) {
      console.warn("      no C compiler was found (CC, cc, gcc, clang): the NVML tests are skipped");
      this.skip();
    }
    folder = new LibraryFolder();
  });
  after(async () => {
    if (usual === undefined) delete process.env["COLDSTART_NVML"];
    else process.env["COLDSTART_NVML"] = usual;
    await readNvidia(); // Lets go of the last of our libraries.
    folder?.remove();
  });

  async function ask(name: string, ...definitions: string[]): Promise<NvidiaDriver> {
    process.env["COLDSTART_NVML"] = folder!.compile(SOURCE, name, definitions);
    return readNvidia();
  }

  it("gives every fact of a GPU", async () => {
    const { library, gpus, ...driver } = await ask("fine");
    assert.equal(library, process.env["COLDSTART_NVML"]);
    assert.deepEqual(driver, { version: "580.95.05", cudaVersion: "13.1" });
    assert.deepEqual(gpus[0], {
      index: 0,
      name: "NVIDIA H100 80GB HBM3",
      uuid: "GPU-11111111-2222-3333-4444-555555555555",
      pciId: "0000:c1:00.0",
      computeCapability: "9.0",
      memory: { total: 85520809984, free: 85017493504, used: 503316480 },
      memoryBandwidth: 3_352_320_000_000, // NVIDIA's data sheet: 3.35 TB/s
      utilization: { gpu: 37, memory: 12 },
      power: 68.123,
      powerLimit: 700,
      temperature: 31,
      clocks: { sm: 345, maxSm: 1980, memory: 2619, maxMemory: 2619 },
      throttleReasons: ["swPowerCap", "hwThermalSlowdown", "unknown (0x400)"],
      eccErrors: { corrected: 3, uncorrected: 0 },
      pcie: { generation: 1, lanes: 8, maxGeneration: 5, maxLanes: 16 },
      persistenceMode: true,
      migMode: false,
      processes: [{ pid: 1000, memory: 251658240 }, { pid: 1001 }],
    });
  });

  it("leaves out what a GPU does not support", async () => {
    const gpu = (await ask("fine")).gpus[1]!;
    assert.equal(gpu.name, "NVIDIA GeForce RTX 4090");
    assert.equal(gpu.pciId, "10000:0a:00.0", "a domain of more than 16 bits");
    assert.ok(!("eccErrors" in gpu) && !("migMode" in gpu));
    assert.deepEqual(gpu.throttleReasons, []);
    assert.deepEqual(gpu.processes, []);
  });

  it("says the same off the JavaScript thread, many times at once", async () => {
    const expected = await ask("fine");
    for (const answer of await Promise.all(Array.from({ length: 50 }, () => readNvidia())))
      assert.deepEqual(answer, expected);
  });

  it("asks an old library by its old functions", async () => {
    const { version, cudaVersion, error, gpus } = await ask("old", "OLD");
    assert.deepEqual(
      { version, cudaVersion, error },
      { version: "580.95.05", cudaVersion: undefined, error: undefined },
    );
    assert.deepEqual(
      gpus.map(({ pciId }) => pciId),
      ["0000:c1:00.0", "0000:0a:00.0"],
    );
    const { computeCapability, memoryBandwidth, powerLimit, temperature, processes } = gpus[0]!;
    assert.deepEqual([computeCapability, memoryBandwidth, powerLimit, temperature], [undefined, undefined, 700, 31]);
    assert.deepEqual(processes, [{ pid: 1000, memory: 251658240 }, { pid: 1001 }]);
  });

  it("asks a library without the deprecated functions by the new ones", async () => {
    const { temperature, throttleReasons: reasons } = (await ask("new", "DEPRECATED_GONE")).gpus[0]!;
    assert.equal(temperature, -5);
    assert.deepEqual(reasons, ["swPowerCap", "hwThermalSlowdown", "unknown (0x400)"]);
  });

  it("has only the number of a GPU that answers nothing", async () => {
    assert.deepEqual((await ask("unsupported", "UNSUPPORTED")).gpus, [{ index: 0 }, { index: 1 }]);
  });

  it("reports a GPU that is lost, beside the others", async () => {
    const { gpus } = await ask("lost", "LOST");
    assert.equal(gpus[0]!.name, "NVIDIA H100 80GB HBM3");
    assert.deepEqual(gpus[1], { index: 1, error: "GPU is lost" });
  });

  it("lists many processes", async () => {
    const processes = (await ask("crowded", "CROWDED")).gpus[0]!.processes!;
    assert.deepEqual(
      processes.map(({ pid }) => pid),
      Array.from({ length: 100 }, (_, i) => 1000 + i),
    );
  });

  it("says why a library cannot be used", async () => {
    const failed = await ask("mismatch", "INIT_FAILS=18");
    assert.equal(failed.error, "Driver/library version mismatch");
    assert.equal(failed.library, process.env["COLDSTART_NVML"]);
    assert.deepEqual(failed.gpus, []);
    assert.equal((await ask("mute", "OLD", "INIT_FAILS=18")).error, "NVML error 18");
    assert.match((await ask("nothing", "NOTHING")).error!, /nothing\.so is not NVML: it lacks nvmlInit/);
  });

  for (const [what, file] of [
    ["no library", path.join(root, "package.json")],
    ["not there", path.join(root, "no-such-library.so")],
  ] as const) {
    it(`has no facts when the file is ${what}`, async () => {
      process.env["COLDSTART_NVML"] = file;
      const { library, error, gpus } = await readNvidia();
      assert.equal(library, undefined);
      assert.ok(error!.includes(path.basename(file)), error);
      assert.deepEqual(gpus, []);
    });
  }

  it("is joined to the devices of backends by their PCI addresses", async () => {
    const device = (name: string, pciId?: string): NativeDevice => ({
      ...{ name, description: name, backend: "CUDA", type: "gpu", memoryTotal: 1, memoryFree: 1 },
      ...(pciId !== undefined && { pciId }),
    });
    const devices = [
      device("CUDA0", "10000:0a:00.0"),
      device("Vulkan0", "0000:c1:00.0"),
      device("CUDA1", "0000:c1:00.0-v1"),
    ];
    const joined = describeDevices([...devices, device("SYCL0")], await ask("fine"), recordedMachine({}));
    assert.deepEqual(
      joined.map(({ nvidia, computeCapability, driver }) => [nvidia?.index, computeCapability, driver]),
      [
        [1, "8.9", "nvidia 580.95.05"],
        [0, "9.0", "nvidia 580.95.05"],
        [0, "9.0", "nvidia 580.95.05"],
        [undefined, undefined, undefined],
      ],
    );
  });
});

describe("throttle reasons", () => {
  it("are one name for each bit that is set", () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (bits) => {
        const names = throttleReasons(bits);
        assert.equal(new Set(names).size, names.length);
        assert.equal(names.length, bits.toString(2).replaceAll("0", "").length);
      }),
    );
  });
});

describe("PCI addresses", () => {
  it("are the same in ggml's form and in NVIDIA's", () => {
    const part = (max: number) => fc.integer({ min: 0, max });
    fc.assert(
      fc.property(part(0xffffffff), part(255), part(31), part(7), (domain, bus, slot, fn) => {
        const hex = (value: number, digits: number) => value.toString(16).padStart(digits, "0");
        const ggml = `${hex(domain, 4)}:${hex(bus, 2)}:${hex(slot, 2)}.${fn}`;
        const nvidia = `${hex(domain, 8)}:${hex(bus, 2)}:${hex(slot, 2)}.${fn}`.toUpperCase();
        assert.notEqual(pciKey(ggml), undefined);
        assert.equal(pciKey(ggml), pciKey(nvidia));
        assert.equal(pciKey(ggml), pciKey(`${ggml}-v3`));
      }),
    );
  });

  it("are not made of anything else", () => {
    for (const text of ["", "GPU-1111", "0000:c1:00", "c1:00.0", "0000:c1:00.9"]) assert.equal(pciKey(text), undefined);
  });
});
