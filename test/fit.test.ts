import assert from "node:assert/strict";
import fc from "fast-check";
import { fit, reserveOf, type Choice, type Demand, type Wishes } from "../lib/placement/fit.js";

const GIB = 2 ** 30;

interface Machine {
  layers: number;
  trained: number;
  layerBytes: number;
  tokenBytes: number;
  computeBytes: number;
  gpuFree: number;
  cpuFree: number;
}

/** A model whose layers are alike, on a CPU and one GPU. */
function measureOn(machine: Machine) {
  let calls = 0;
  const measure = (choice: Choice): Promise<Demand> => {
    calls++;
    const all = machine.layers + 1;
    const onGpu = Math.min(choice.gpuLayers, all);
    const device = (name: string, free: number, layers: number) => ({
      name,
      backend: name === "CPU" ? "CPU" : "CUDA",
      description: name,
      total: free,
      free,
      beyond: 0,
      weights: layers * machine.layerBytes,
      kvCache: Math.min(layers, machine.layers) * choice.contextLength * machine.tokenBytes,
      compute: layers > 0 ? machine.computeBytes + choice.contextLength * 8 : 0,
      layers,
    });
    return Promise.resolve({
      devices: [device("CPU", machine.cpuFree, all - onGpu), device("CUDA0", machine.gpuFree, onGpu)],
      layers: machine.layers,
      trainedContextLength: machine.trained,
      contextLength: choice.contextLength,
      kvCells: choice.contextLength,
    });
  };
  return { measure, calls: () => calls };
}

const reserves = { headroom: 0.15, leaveFree: 0.2 };
const machines = fc.record<Machine>({
  layers: fc.integer({ min: 1, max: 120 }),
  trained: fc.integer({ min: 1, max: 262_144 }),
  layerBytes: fc.integer({ min: 1, max: GIB }),
  tokenBytes: fc.integer({ min: 1, max: 8192 }),
  computeBytes: fc.integer({ min: 0, max: GIB }),
  gpuFree: fc.integer({ min: 0, max: 80 * GIB }),
  cpuFree: fc.integer({ min: 0, max: 256 * GIB }),
});

async function fits(measure: (choice: Choice) => Promise<Demand>, choice: Choice, only?: string): Promise<boolean> {
  const { devices } = await measure(choice);
  return devices
    .filter(({ name }) => only === undefined || name === only)
    .every((device) => {
      const { free, weights, kvCache, compute } = device;
      return weights + kvCache + compute + reserveOf(device, reserves) <= free;
    });
}

describe("what fits", () => {
  const auto: Wishes = { gpuLayers: "auto", contextLength: { atMost: 2 ** 31 - 1 }, parallel: 8 };

  it("is no context whose cache a device refuses, whatever is free", async () => {
    const machine = { layers: 8, trained: 131_072, layerBytes: 1, tokenBytes: 1, computeBytes: 0, gpuFree: GIB, cpuFree: GIB }; // prettier-ignore
    const { measure, calls } = measureOn(machine);
    const refusing = async (choice: Choice): Promise<Demand> => {
      const demand = await measure(choice);
      return choice.contextLength > 50_000 ? { ...demand, refused: "too large" } : demand;
    };
    const found = await fit(refusing, auto, reserves, false);
    assert.deepEqual([found.fits, found.choice.contextLength, found.choice.gpuLayers], [true, 49_920, 9]);
    assert.ok(calls() < 30, String(calls()));
  });

  it("leaves free what a limit does not leave free already", () => {
    const device = { name: "CUDA0", backend: "CUDA", description: "", total: 100, layers: 1, weights: 0, kvCache: 0, compute: 0 }; // prettier-ignore
    const left = (free: number, beyond: number) => reserveOf({ ...device, free, beyond }, reserves);
    assert.deepEqual([left(90, 0), left(80, 10), left(60, 30)], [20, 10, 0]);
  });

  it("is what it says: nothing beyond what is free", () =>
    fc.assert(
      fc.asyncProperty(machines, async (machine) => {
        const { measure } = measureOn(machine);
        const found = await fit(measure, auto, reserves, false);
        assert.equal(found.fits, await fits(measure, found.choice));
        assert.ok(found.choice.contextLength <= machine.trained);
        assert.ok(found.choice.gpuLayers >= 0 && found.choice.gpuLayers <= machine.layers + 1);
      }),
    ));

  it("is the most layers, at a given context", () =>
    fc.assert(
      fc.asyncProperty(machines, fc.integer({ min: 1, max: 65_536 }), async (machine, contextLength) => {
        const { measure } = measureOn(machine);
        const { choice } = await fit(measure, { ...auto, contextLength }, reserves, false);
        assert.equal(choice.contextLength, contextLength);
        // By trying all.
        let most = 0;
        for (let n = 0; n <= machine.layers + 1; n++) {
          if (await fits(measure, { gpuLayers: n, contextLength, parallel: 8 }, "CUDA0")) most = n;
        }
        assert.equal(choice.gpuLayers, most);
      }),
    ));

  it("is the longest context, to a step of 256, with given layers", () =>
    fc.assert(
      fc.asyncProperty(machines, fc.integer({ min: 0, max: 121 }), async (machine, gpuLayers) => {
        const { measure } = measureOn(machine);
        const found = await fit(measure, { ...auto, gpuLayers }, reserves, false);
        const { contextLength } = found.choice;
        if (!found.fits || contextLength === machine.trained) return;
        const longer = Math.min(contextLength + 256, machine.trained);
        assert.equal(await fits(measure, { ...found.choice, contextLength: longer }), false);
      }),
    ));

  it("takes few measurements", () =>
    fc.assert(
      fc.asyncProperty(machines, async (machine) => {
        const { measure, calls } = measureOn(machine);
        await fit(measure, auto, reserves, false);
        assert.ok(calls() <= 40, String(calls()));
      }),
    ));

  it("gives up parallel generations before anything else, where they cost a pool each", async () => {
    const { measure } = measureOn({
      layers: 10,
      trained: 4096,
      layerBytes: 1,
      tokenBytes: 1000,
      computeBytes: 0,
      gpuFree: 0,
      cpuFree: 4096 * 1000 * 10 * 3,
    });
    const split = (choice: Choice) => measure({ ...choice, contextLength: choice.contextLength * choice.parallel });
    const wishes: Wishes = { gpuLayers: 0, contextLength: 4096, parallel: { atMost: 8 } };
    const { choice, fits: all } = await fit(split, wishes, { headroom: 0, leaveFree: 0 }, false);
    assert.deepEqual([choice.parallel, all], [2, true]);
  });

  it("pages weights that are mapped and larger than the memory, and says so", async () => {
    const machine = { layers: 10, trained: 4096, layerBytes: GIB, tokenBytes: 1, computeBytes: 0, gpuFree: 0 };
    const { measure } = measureOn({ ...machine, cpuFree: 4 * GIB });
    const wishes: Wishes = { ...auto, gpuLayers: 0 };
    const mapped = await fit(measure, wishes, reserves, true);
    assert.deepEqual([mapped.fits, mapped.paging, mapped.choice.contextLength], [false, true, 4096]);
    const copied = await fit(measure, wishes, reserves, false);
    assert.deepEqual([copied.fits, copied.paging], [false, false]);
  });
});
