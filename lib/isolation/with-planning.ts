// Plans made in this process, or with workers in one of its own.

import { listBackends, loadedPlugins } from "../backends.js";
import type { CheckedLoad } from "../check-load.js";
import { native } from "../native.js";
import type { Planning } from "../placement/planning.js";
import { probeWorker, workerNotes, type Worker } from "../workers/probe.js";
import { RemotePlanning } from "./remote-planning.js";

const planningHere: Planning = {
  backends: listBackends,
  devices: () => Promise.resolve(native().listDevices()),
  planner: (source) => new (native().Planner)(source),
};

/**
 * Does something with this machine or, with workers, with this machine and theirs: from another process, because llama.cpp
 * ends the process that loses a worker. Rejects with `WORKER_UNREACHABLE` and `WORKER_MISMATCH`, before that.
 */
export async function withPlanning<T>(
  { workers: endpoints, signal, notes, wishes }: CheckedLoad,
  use: (planning: Planning, workers: Worker[]) => Promise<T>,
): Promise<T> {
  if (endpoints.length === 0) return use(planningHere, []);
  // All of them at a time.
  const workers = await Promise.all(endpoints.map((endpoint) => probeWorker(endpoint, { signal })));
  notes.push(...workerNotes(workers));
  const planning = new RemotePlanning(wishes.gpuLayers === 0 ? [] : await loadedPlugins(), workers);
  const abort = () => planning.close();
  signal?.addEventListener("abort", abort, { once: true });
  try {
    return await use(planning, workers);
  } finally {
    signal?.removeEventListener("abort", abort);
    planning.close();
  }
}
