// What is to be loaded where.

import { formatBytes } from "../units.js";
import type { DeviceDemand } from "./fit.js";

/** A device and what a model takes of it. Bytes. */
export interface DevicePlan {
  /** `"CPU"`, `"CUDA0"`, … */
  name: string;
  /** `"CPU"`, `"CUDA"`, …; `"RPC"` of a worker. */
  backend: string;
  /** `"AMD EPYC"`, `"NVIDIA H100"`, …; of a worker's device the worker's `"host:port"`. */
  description: string;
  /** Layers whose weights are there; the output layer is not counted. */
  layers: number;
  /** Memory of the device. */
  total: number;
  /** Of it free: in a plan before loading, in a placement just after. */
  free: number;
  weights: number;
  kvCache: number;
  /** Buffers for intermediate results. */
  compute: number;
  /** What is to be kept free: `memory.headroom` and `memory.leaveFree`. */
  reserve: number;
}

/** What is to be loaded where. */
export interface Plan {
  /** Whether all of it fits, with what is to be kept free. */
  fits: boolean;
  /** Most tokens of one generation. */
  contextLength: number;
  /** Layers on GPUs; the output layer counts as one. */
  gpuLayers: number;
  /** All layers, counted in the same way. */
  layers: number;
  /** Most generations at the same time. */
  parallel: number;
  kvCache: {
    /** One pool of tokens for all generations, or one for each. */
    layout: "unified" | "split";
    /** Tokens, over all pools. */
    capacity: number;
  };
  /** The CPU, and the GPUs in use. */
  devices: DevicePlan[];
  /** Why it was decided so. */
  reasons: { devices: string; gpuLayers: string; contextLength: string; parallel: string };
  /** What is not as one might expect, and why. */
  notes: string[];
}

/** @internal */
export function toDevicePlan(device: DeviceDemand, reserve: number): DevicePlan {
  const { name, backend, description, layers, total, free, weights, kvCache, compute } = device;
  return { name, backend, description, layers, total, free, weights, kvCache, compute, reserve };
}

/** The devices of a plan as text: `"CUDA0 needs 12.1 GiB of 10.2 GiB free"`. */
export function shortfalls(devices: Omit<DevicePlan, "layers">[], withReserve: boolean): string[] {
  return devices
    .filter((device) => needOf(device, withReserve) > device.free)
    .map(
      (device) =>
        `${device.name} needs ${formatBytes(needOf(device, withReserve))} and has ${formatBytes(device.free)} free`,
    );
}

function needOf(device: Omit<DevicePlan, "layers">, withReserve: boolean): number {
  return device.weights + device.kvCache + device.compute + (withReserve ? device.reserve : 0);
}
