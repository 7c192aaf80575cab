// What a model takes, with its draft model and of any length.

import type { NativeEngineOptions } from "../native.js";
import type { DeviceDemand } from "./fit.js";
import type { Planner } from "./planning.js";

/** As native/engine/speculator.cc makes the draft model's context. */
export function draftOptions(options: NativeEngineOptions, kvCells: number): NativeEngineOptions {
  return {
    ...options,
    speculation: "none",
    gpuLayers: options.draftGpuLayers,
    overrides: [],
    kvUnified: true,
    deterministic: false,
    kvCells,
    keyType: "f16",
    valueType: "f16",
  };
}

export function add(devices: DeviceDemand[], more: DeviceDemand): void {
  const known = devices.find(({ name }) => name === more.name);
  if (!known) {
    devices.push({ ...more, layers: 0 });
    return;
  }
  known.weights += more.weights;
  known.kvCache += more.kvCache;
  known.compute += more.compute;
}

/** Tokens of a cache up to which it is measured: the list of its cells alone takes 60 bytes each. */
const MEASURED_CELLS = 2 ** 21;

/** llama.cpp's own answer, and beyond that the straight line that it follows. */
export async function measureAnyLength(planner: Planner, options: NativeEngineOptions) {
  const pools = options.kvUnified && !options.deterministic ? 1 : options.parallel;
  const cells = options.kvCells || options.contextLength * pools;
  if (cells <= MEASURED_CELLS) return planner.measure(options);
  const at = (share: number) =>
    planner.measure({
      ...options,
      contextLength: Math.floor((MEASURED_CELLS * share) / pools),
      kvCells: Math.floor((MEASURED_CELLS * share) / pools) * pools,
    });
  const [half, whole] = await Promise.all([at(0.5), at(1)]);
  const extend = (small: number, large: number) =>
    small + ((large - small) * (cells - half.kvCells)) / (whole.kvCells - half.kvCells);
  return {
    ...whole,
    contextLength: options.contextLength,
    kvCells: cells,
    devices: whole.devices.map((device) => {
      const small = half.devices.find(({ name }) => name === device.name) ?? device;
      return {
        ...device,
        kvCache: extend(small.kvCache, device.kvCache),
        compute: extend(small.compute, device.compute),
      };
    }),
  };
}
