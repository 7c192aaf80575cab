// What to do when there is not enough memory: say so, or try with less.

import { ColdstartError, withoutRemedy } from "../errors.js";
import type { NativeEngineOptions } from "../native.js";
import { formatBytes } from "../units.js";
import type { Placed, Placer } from "./placer.js";
import { shortfalls, type Plan } from "./plan.js";

const SMALL_BATCH = 64;
const LEAST_CONTEXT = 512;

/**
 * Throws `OUT_OF_MEMORY` for what cannot be allocated even if nothing is kept free. Without this, the system would kill
 * the process when it uses the memory, instead of refusing it.
 */
export function refuseHopeless({ plan, refused }: Placed): void {
  if (refused !== undefined) throw new ColdstartError("OUT_OF_MEMORY", refused);
  const paging = plan.devices.map((device) =>
    // Mapped weights that do not fit are read again and again; there is a note about that.
    device.backend === "CPU" && device.weights > device.free ? { ...device, weights: 0 } : device,
  );
  const short = shortfalls(
    paging.filter(({ total }) => total > 0),
    false,
  );
  if (short.length === 0) return;
  throw new ColdstartError("OUT_OF_MEMORY", `The model does not fit: ${short.join("; ")}.`, {});
}

/** The error with the plan and with what can be done about it. */
export function outOfMemory(cause: ColdstartError, plan: Plan, tried: string[] = []): ColdstartError {
  const after = tried.length === 0 ? "" : ` It was refused also after: ${tried.join(", ")}.`;
  return new ColdstartError("OUT_OF_MEMORY", withoutRemedy(cause) + after, {
    remedy: remedies(plan),
    details: { ...cause.details, plan, tried },
    cause,
  });
}

function remedies(plan: Plan): string {
  const kvBytes = plan.devices.reduce((bytes, { kvCache }) => bytes + kvCache, 0);
  const options = [
    `contextLength: "auto" or below ${plan.contextLength} (the KV cache takes ${formatBytes(kvBytes)})`,
    `kvCache: { keyType: "q8_0", valueType: "q8_0" } (about half of that)`,
    plan.gpuLayers > 0
      ? `gpuLayers: "auto" or below ${plan.gpuLayers}`
      : "a smaller model, or the same with fewer bits a weight",
  ];
  return (
    options.map((option, i) => `${i + 1}. ${option}.`).join(" ") + ' Or onOutOfMemory: "retry" to have them tried.'
  );
}

/** What to try, with all changes so far. Those that could not fit by their plan are left out. */
export async function* rungs(placer: Placer, placed: Placed): AsyncGenerator<{ changes: string[]; candidate: Placed }> {
  let options = placed.native;
  const changes = new Map<string, string>(); // by option
  const steps = [smallerBatch, quantizedCache, fewerLayers, shorterContext];
  for (const step of steps) {
    for (let next = step(options); next; next = step(options)) {
      options = next.options;
      changes.set(next.option, next.value);
      const candidate = await replan(placer, placed.plan, options);
      if (candidate.refused !== undefined || shortfalls(candidate.plan.devices, false).length > 0) continue;
      yield { changes: [...changes].map((change) => change.join(" ")), candidate };
    }
  }
}

async function replan(placer: Placer, plan: Plan, options: NativeEngineOptions): Promise<Placed> {
  const { demand, devices } = await placer.measure(options);
  const contextLength = options.contextLength;
  const gpuLayers = options.devices.length === 0 ? 0 : Math.min(options.gpuLayers, plan.layers);
  const reason = (now: number, before: number, was: string) => (now === before ? was : "memory was refused");
  const replanned: Plan = {
    ...plan,
    fits: demand.refused === undefined && shortfalls(devices, true).length === 0,
    contextLength,
    gpuLayers,
    kvCache: { ...plan.kvCache, capacity: demand.kvCells },
    devices,
    reasons: {
      ...plan.reasons,
      gpuLayers: reason(gpuLayers, plan.gpuLayers, plan.reasons.gpuLayers),
      contextLength: reason(contextLength, plan.contextLength, plan.reasons.contextLength),
    },
  };
  return { native: options, plan: replanned, refused: demand.refused };
}

interface Step {
  option: string;
  value: string;
  options: NativeEngineOptions;
}

function smallerBatch(options: NativeEngineOptions): Step | undefined {
  if (options.batchSize <= SMALL_BATCH) return undefined;
  return { option: "batchSize", value: `${SMALL_BATCH}`, options: { ...options, batchSize: SMALL_BATCH } };
}

function quantizedCache(options: NativeEngineOptions): Step | undefined {
  const wide = ["f32", "f16", "bf16"];
  // Values of less than 16 bits need flash attention.
  if (options.flashAttention === 0 || !wide.includes(options.keyType) || !wide.includes(options.valueType)) {
    return undefined;
  }
  return { option: "kvCache", value: "q8_0", options: { ...options, keyType: "q8_0", valueType: "q8_0" } };
}

function fewerLayers(options: NativeEngineOptions): Step | undefined {
  if (options.devices.length === 0 || options.gpuLayers === 0) return undefined;
  const gpuLayers = Math.floor(options.gpuLayers / 2);
  return { option: "gpuLayers", value: `${gpuLayers}`, options: { ...options, gpuLayers } };
}

function shorterContext(options: NativeEngineOptions): Step | undefined {
  if (options.contextLength <= LEAST_CONTEXT) return undefined;
  const contextLength = Math.max(LEAST_CONTEXT, Math.floor(options.contextLength / 2));
  return {
    option: "contextLength",
    value: `${contextLength}`,
    options: { ...options, contextLength, kvCells: 0 },
  };
}
