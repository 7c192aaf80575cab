// What plans are made with.

import { listBackends, loadedPlugins, type Backend } from "./backends.js";
import { RemotePlanning } from "./isolation/remote-planning.js";
import type { CheckedLoad } from "./load-options.js";
import { native, type NativeDevice, type NativePlanner } from "./native.js";
import { probeWorker, workerNotes, type Worker } from "./workers/probe.js";

export type Planner = Pick<NativePlanner, "measure">;

/** The devices that there are, and what llama.cpp would allocate on them. */
export interface Planning {
  backends(): Promise<Backend[]>;
  devices(): Promise<NativeDevice[]>;
  planner(source: string | Uint8Array[]): Planner;
}

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
