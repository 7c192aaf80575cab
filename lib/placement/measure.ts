// What a model takes, with its draft model and of any length.

import { ColdstartError, withoutRemedy } from "../errors.js";
import type { NativeDemand, NativeEngineOptions } from "../native.js";
import type { DeviceDemand } from "./fit.js";
import type { Planner } from "./planning.js";

/** As native/addon/options.cc and native/engine/speculator.cc load the draft model and make its context. */
export function draftOptions(options: NativeEngineOptions, kvCells: number): NativeEngineOptions {
  const draft: NativeEngineOptions = {
    ...options,
    speculation: "none",
    gpuLayers: options.draftGpuLayers,
    gpuSampling: false,
    scores: false,
    splitMode: "layer",
    mainDevice: 0,
    tensorSplit: [],
    overrides: [],
    kvUnified: true,
    deterministic: false,
    kvCells,
    keyType: "f16",
    valueType: "f16",
  };
  delete draft.quantize; // Only the model is.
  draft.adapters = [];
  return draft;
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

function poolsOf({ kvUnified, deterministic, parallel }: NativeEngineOptions): number {
  return kvUnified && !deterministic ? 1 : parallel;
}

/** Tokens of one generation that a cache of a given size holds. */
export function contextOfCapacity(options: NativeEngineOptions): number {
  return options.kvCells === 0 ? Infinity : Math.max(1, Math.floor(options.kvCells / poolsOf(options)));
}

type Measured = NativeDemand & { refused?: string };

/** llama.cpp's own answer, and for what it does not answer the straight line that it follows. */
export async function measureAnyLength(planner: Planner, options: NativeEngineOptions): Promise<Measured> {
  const pools = poolsOf(options);
  const cells = options.kvCells || options.contextLength * pools;
  let refused: string | undefined;
  for (let most = Math.min(cells, MEASURED_CELLS); ; most = Math.floor(most / 2)) {
    try {
      if (most === cells) return await planner.measure(options);
      const demand = await extrapolate(planner, options, cells, most);
      return refused === undefined ? demand : { ...demand, refused };
    } catch (error) {
      // A tensor of the cache is larger than the device takes in one piece: a smaller one says how it grows.
      if (!(error instanceof ColdstartError && error.code === "OUT_OF_MEMORY" && most >= 4 * pools)) throw error;
      refused ??= withoutRemedy(error);
    }
  }
}

/** @param most cells that may be measured */
async function extrapolate(
  planner: Planner,
  options: NativeEngineOptions,
  cells: number,
  most: number,
): Promise<NativeDemand> {
  const pools = poolsOf(options);
  const at = (share: number) =>
    planner.measure({
      ...options,
      contextLength: Math.floor((most * share) / pools),
      kvCells: Math.floor((most * share) / pools) * pools,
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
