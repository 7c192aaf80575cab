// What a model would take if all others of a pool were gone, and what there is for it and them.

import { checkLoad } from "../check-load.js";
import type { ColdstartError } from "../errors.js";
import { withPlanning } from "../isolation/with-planning.js";
import type { LoadOptions } from "../load-options.js";
import { openLoad, toPlan } from "../model-source.js";
import type { DevicePlan, Plan } from "../placement/plan.js";
import { countExtras } from "../placement/extras.js";
import { outOfMemory, refuseHopeless } from "../placement/out-of-memory.js";
import { Placer } from "../placement/placer.js";
import type { Bytes } from "./policy.js";

/** What a loaded model holds. */
export interface Held {
  bytes: Bytes;
  /** Of them, what the system would count as free all the same: pages of files that are mapped. */
  pages: Bytes;
}

export interface PlanBeside {
  plan: Plan;
  /** What it takes. */
  wanted: Bytes;
  /** What it and the others may take together, without what is to be kept free. */
  capacity: Bytes;
}

/**
 * Rejects as `planModel()`, and with `OUT_OF_MEMORY` where nothing helps.
 *
 * @param limits bytes that all of them may take of a device
 */
export async function planBeside(
  path: string | URL,
  options: LoadOptions,
  held: readonly Held[],
  limits: Bytes,
): Promise<PlanBeside> {
  const { onProgress: _, signal: __, seed: ___, ...load } = options;
  const opened = await openLoad(checkLoad(path, load));
  const extra = await countExtras(opened.native);
  const given = (device: string) =>
    held.reduce((bytes, one) => bytes + (one.bytes[device] ?? 0) - (one.pages[device] ?? 0), 0);
  const plan = await withPlanning(opened, async (planning) => {
    const placer = new Placer(toPlan(opened.source), opened, planning, (demand) => {
      extra(demand);
      for (const device of demand.devices)
        device.free = Math.min(device.free + given(device.name), limits[device.name] ?? Infinity);
    });
    const placed = await placer.place();
    try {
      refuseHopeless(placed);
    } catch (error) {
      throw outOfMemory(error as ColdstartError, placed.plan);
    }
    return placed.plan;
  });
  const by = (value: (device: DevicePlan) => number) =>
    Object.fromEntries(plan.devices.map((device) => [device.name, value(device)]));
  return {
    plan,
    wanted: by(({ weights, kvCache, compute }) => weights + kvCache + compute),
    capacity: by(({ free, reserve }) => free - reserve),
  };
}

/** Of a model that was loaded. */
export function heldBy({ devices, loadMode }: { devices: readonly DevicePlan[]; loadMode: string }): Held {
  const by = (value: (device: DevicePlan) => number) =>
    Object.fromEntries(devices.map((device) => [device.name, value(device)]));
  return {
    bytes: by(({ weights, kvCache, compute }) => weights + kvCache + compute),
    pages: by(({ backend, weights }) => (backend === "CPU" && loadMode === "mmap" ? weights : 0)),
  };
}

/** Options that load what was planned, and no less for want of what others hold. */
export function asPlanned(options: LoadOptions, { contextLength, gpuLayers, parallel }: Plan): LoadOptions {
  return { ...options, contextLength, gpuLayers, parallel };
}
