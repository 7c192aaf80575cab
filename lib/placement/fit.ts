// Finds the most that fits: layers on GPUs, context, sequences. Pure: what something takes is asked of `measure`.

import type { Reserves } from "../check-load.js";
import type { NativeDemand } from "../native.js";

/** What is decided. */
export interface Choice {
  /** The output layer counts as one; what is beyond all layers means all. */
  gpuLayers: number;
  /** Tokens. */
  contextLength: number;
  parallel: number;
}

/** What a user fixed, and what is to be found. */
export interface Wishes {
  gpuLayers: number | "auto";
  /** `atMost`: the largest that fits, and no more than this. */
  contextLength: number | { atMost: number };
  parallel: number | { atMost: number };
}

export interface DeviceDemand {
  name: string;
  backend: string;
  description: string;
  /** Bytes. */
  total: number;
  /** Bytes that can be had now. */
  free: number;
  /** Bytes that are free too, and not to be used: beyond a limit. */
  beyond: number;
  weights: number;
  kvCache: number;
  compute: number;
  /** Whose weights are there, the output layer not counted. */
  layers: number;
}

export interface Demand extends Omit<NativeDemand, "devices"> {
  devices: DeviceDemand[];
  /** Why no memory would be enough: a tensor is larger than its device takes in one piece. */
  refused?: string;
}

export interface Fit {
  choice: Choice;
  demand: Demand;
  fits: boolean;
  /** The host's memory cannot hold the weights, and they are mapped: they will be read from the disk again and again. */
  paging: boolean;
}

export type Measure = (choice: Choice) => Promise<Demand>;

/** Least context that is worth giving up layers on a GPU for. */
const WORTHWHILE_CONTEXT = 4096;
const CONTEXT_STEP = 256;
const ALL_LAYERS = 2 ** 31 - 1;

/** Bytes of a device that are not to be used. */
export function reserveOf(device: DeviceDemand, reserves: Reserves): number {
  const left = device.backend === "CPU" ? 0 : Math.max(0, reserves.leaveFree * device.total - device.beyond);
  return Math.ceil(left + reserves.headroom * device.compute);
}

/** Bytes left on the device that is tightest; negative when something does not fit. */
function slackOf(demand: Demand, reserves: Reserves, paging: boolean): number {
  if (demand.refused !== undefined) return -Infinity;
  return Math.min(
    ...demand.devices.map((device) => {
      const weights = paging && device.backend === "CPU" ? 0 : device.weights;
      return device.free - weights - device.kvCache - device.compute - reserveOf(device, reserves);
    }),
  );
}

function kvBytes({ devices }: Demand): number {
  return devices.reduce((bytes, { kvCache }) => bytes + kvCache, 0);
}

/** @param mapped whether weights in host memory are mapped from the file, so that they need not fit */
export async function fit(measure: Measure, wishes: Wishes, reserves: Reserves, mapped: boolean): Promise<Fit> {
  const known = new Map<string, Promise<Demand>>();
  const at = (choice: Choice) => {
    const key = JSON.stringify(choice);
    const demand = known.get(key) ?? measure(choice);
    known.set(key, demand);
    return demand;
  };

  const fixedContext = typeof wishes.contextLength === "number" ? wishes.contextLength : undefined;
  const most: Choice = {
    gpuLayers: wishes.gpuLayers === "auto" ? ALL_LAYERS : wishes.gpuLayers,
    contextLength: fixedContext ?? CONTEXT_STEP,
    parallel: typeof wishes.parallel === "number" ? wishes.parallel : wishes.parallel.atMost,
  };
  const probe = await at(most);
  const allLayers = probe.layers + 1;
  most.gpuLayers = Math.min(most.gpuLayers, allLayers);
  if (typeof wishes.contextLength !== "number")
    most.contextLength = Math.min(probe.trainedContextLength, wishes.contextLength.atMost);
  const leastContext = fixedContext ?? Math.min(most.contextLength, WORTHWHILE_CONTEXT);

  // Weights that are mapped and too many cannot be helped by a shorter context.
  const pagingAt = (demand: Demand) =>
    mapped && demand.devices.some(({ backend, weights, free }) => backend === "CPU" && weights > free);
  const slackAt = async (choice: Choice) => {
    const demand = await at(choice);
    return slackOf(demand, reserves, pagingAt(demand));
  };
  const result = async (choice: Choice): Promise<Fit> => {
    const demand = await at(choice);
    const paging = pagingAt(demand);
    return { choice, demand, paging, fits: !paging && slackOf(demand, reserves, false) >= 0 };
  };

  let best = most;
  if ((await slackAt(best)) >= 0) return result(best);

  if (typeof wishes.parallel !== "number") {
    for (let parallel = best.parallel >> 1; parallel >= 1; parallel >>= 1) {
      if ((await slackAt({ ...best, parallel })) >= 0) return result({ ...best, parallel });
    }
    // In one pool for all they hardly cost anything, and are no reason for a lack.
    if (kvBytes(await at({ ...best, parallel: 1 })) < kvBytes(await at(best)) / 2) best = { ...best, parallel: 1 };
  }
  const setContext = (contextLength: number) => ({ ...best, contextLength });
  const setLayers = (gpuLayers: number) => ({ ...best, gpuLayers });
  const growContext = async (from: number) => {
    const context = await largest(from, most.contextLength, CONTEXT_STEP, (n) => slackAt(setContext(n)));
    return result(setContext(context));
  };

  if (fixedContext === undefined && (await slackAt(setContext(leastContext))) >= 0) return growContext(leastContext);
  best = setContext(leastContext);
  if (wishes.gpuLayers === "auto") {
    const hasRoom = async (n: number) => {
      // What the host cannot hold is no reason to take a layer off a GPU.
      const { devices, ...rest } = await at(setLayers(n));
      return slackOf({ ...rest, devices: devices.filter(({ backend }) => backend !== "CPU") }, reserves, false);
    };
    if ((await hasRoom(0)) >= 0) best = setLayers(await largest(0, allLayers, 1, hasRoom));
    else best = setLayers(0);
  }
  if (fixedContext !== undefined) return result(best);
  if ((await slackAt(best)) >= 0) return growContext(leastContext);
  const least = Math.min(CONTEXT_STEP, leastContext);
  best = setContext(least);
  return (await slackAt(best)) >= 0 ? growContext(least) : result(best);
}

/**
 * The largest number of `from`, `from + step`, … below `to` at which `slack` is not negative, given that it is not at
 * `from`, is at `to`, and falls in between. Guesses that it falls in a straight line, which makes it a few steps.
 */
async function largest(from: number, to: number, step: number, slack: (n: number) => Promise<number>): Promise<number> {
  let low = { n: from, slack: await slack(from) };
  let high = { n: to, slack: await slack(to) };
  if (high.slack >= 0) return to;
  for (let round = 0; high.n - low.n > step; round++) {
    const share = round % 3 === 2 || high.slack === -Infinity ? 0.5 : low.slack / (low.slack - high.slack);
    const steps = Math.floor((share * (high.n - low.n)) / step);
    const n = low.n + Math.min(Math.max(steps, 1), Math.ceil((high.n - low.n) / step) - 1) * step;
    const middle = { n, slack: await slack(n) };
    if (middle.slack >= 0) low = middle;
    else high = middle;
  }
  return low.n;
}
