// What comes with a model and takes memory where it is: adapters, a projector.

import { inspectGguf } from "../gguf/inspect-gguf.js";
import type { NativeEngineOptions } from "../native.js";
import type { Demand } from "./fit.js";

/**
 * Adds the weights of adapters, in proportion to those of the model on each device, and those of a projector, on the first
 * GPU, to what an engine would take. Rejects as `inspectGguf()`.
 *
 * @param options paths of GGUF files
 */
export async function countExtras({
  adapters,
  projector,
}: Pick<NativeEngineOptions, "adapters" | "projector">): Promise<(demand: Demand) => void> {
  const sizes = await Promise.all(adapters.map(([path]) => weightBytes(path)));
  const adapterBytes = sizes.reduce((a, b) => a + b, 0);
  const projectorBytes = projector === "" ? 0 : await weightBytes(projector);
  return ({ devices }) => {
    const all = devices.reduce((bytes, { weights }) => bytes + weights, 0);
    for (const device of devices) device.weights += Math.ceil((adapterBytes * device.weights) / Math.max(all, 1));
    const gpu = devices.find(({ backend }) => backend !== "CPU") ?? devices[0];
    if (gpu) gpu.weights += projectorBytes;
  };
}

async function weightBytes(path: string): Promise<number> {
  return (await inspectGguf(path, { arrayLimit: 0 })).weightBytes;
}
