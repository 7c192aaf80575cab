// Why a plan is as it is, in words.

import type { PlacementWishes } from "../check-load.js";
import { DEFAULT_CONTEXT } from "../check-load.js";
import type { NativeDevice, NativeEngineOptions } from "../native.js";
import type { Demand } from "./fit.js";
import { contextOfCapacity } from "./measure.js";

export function whyDevices(wishes: PlacementWishes, devices: NativeDevice[]): string {
  if (wishes.gpuLayers === 0) return "none is asked for: gpuLayers is 0";
  if (wishes.devices) return "as asked";
  const workers = devices.filter(({ backend }) => backend === "RPC").length;
  if (workers > 0) return devices.length > workers ? "those of the workers, and all GPUs" : "those of the workers";
  return devices.length === 0 ? "there is no GPU" : "all GPUs";
}

export function whyLayers(wishes: PlacementWishes, gpuLayers: number, layers: number, devices: string[]): string {
  if (devices.length === 0) return "there is no GPU in use";
  if (typeof wishes.gpuLayers === "number" || wishes.gpuLayers === "max") return "as asked";
  return gpuLayers === layers ? "all fit" : `no more fit ${devices.join(", ")}`;
}

export function whyContext(
  wishes: PlacementWishes,
  contextLength: number,
  demand: Demand,
  options: NativeEngineOptions,
): string {
  if (typeof wishes.contextLength === "number") return "as asked";
  if (contextLength === demand.trainedContextLength) return "what the model was trained for";
  if (contextLength === contextOfCapacity(options)) return "what kvCache.capacity holds";
  return contextLength === DEFAULT_CONTEXT && wishes.contextLength === undefined
    ? `the default; the model was trained for ${demand.trainedContextLength}`
    : `no more fits; the model was trained for ${demand.trainedContextLength}`;
}
