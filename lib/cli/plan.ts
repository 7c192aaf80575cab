import type { LoadOptions } from "../load-options.js";
import type { DevicePlan, Plan } from "../placement/plan.js";
import { planModel, type PlanOptions } from "../plan.js";
import { placementOf, type PlacementFlags } from "./commands/placement.js";
import { formatBytes, formatTable } from "./format.js";
import { given } from "./given.js";

export interface PlanFlags extends PlacementFlags, Pick<LoadOptions, "parallel" | "batchSize"> {
  kvLayout?: "unified" | "split";
  headroom?: number;
  leaveFree?: number;
  json?: boolean;
}

export async function plan(model: string, flags: PlanFlags): Promise<void> {
  const { parallel, batchSize, kvLayout, headroom, leaveFree, json } = flags;
  const options: PlanOptions = given({
    ...placementOf(flags, kvLayout),
    parallel,
    batchSize,
    memory: given({ headroom, leaveFree }),
  });
  const found = await planModel(model, options);
  if (json) {
    console.log(JSON.stringify(found, null, 2));
    return;
  }
  console.log(describe(found));
  const most = await planModel(model, { ...options, gpuLayers: options.gpuLayers ?? "auto", contextLength: "auto" });
  if (most.fits) console.log(`\nThe longest context that fits: ${most.contextLength}`);
}

function describe(plan: Plan): string {
  const { contextLength, gpuLayers, layers, parallel, kvCache, reasons } = plan;
  const decisions = [
    ["context length", String(contextLength), reasons.contextLength],
    ["layers on GPUs", `${gpuLayers} of ${layers}`, reasons.gpuLayers],
    ["generations at a time", String(parallel), reasons.parallel],
    ["KV cache", `${kvCache.capacity} tokens`, kvCache.layout],
  ];
  const header = ["DEVICE", "LAYERS", "WEIGHTS", "KV CACHE", "COMPUTE", "RESERVE", "FREE", ""];
  const rows = plan.devices.map((device) => [
    device.name,
    String(device.layers),
    ...[device.weights, device.kvCache, device.compute, device.reserve, device.free].map(formatBytes),
    bar(device),
  ]);
  return [
    plan.fits ? "It fits." : "It does not fit.",
    formatTable(decisions),
    formatTable([header, ...rows]),
    ...plan.notes.map((note) => `Note: ${note}`),
  ].join("\n\n");
}

const BAR = 30;

/** What is in use of a device, what the model takes and what is kept free: `[░░██████··     ]` */
function bar({ total, free, weights, kvCache, compute, reserve }: DevicePlan): string {
  if (total === 0) return "";
  const share = (bytes: number) => (bytes / total) * BAR;
  const ends = [total - free, weights, kvCache, compute, reserve].reduce<number[]>(
    (sums, bytes) => [...sums, (sums.at(-1) ?? 0) + share(bytes)],
    [],
  );
  const marks = ["░", "█", "▓", "▒", "·"];
  const cells = Array.from({ length: BAR }, (_, i) => marks[ends.findIndex((end) => i + 0.5 < end)] ?? " ");
  const over = (ends[4] ?? 0) > BAR + 1e-9 ? "!" : "";
  return `[${cells.join("")}]${over}`;
}
