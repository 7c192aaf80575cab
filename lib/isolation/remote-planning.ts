// Devices and plans of a process of its own, which may end without taking the application with it.

import { listBackends, type Backend } from "../backends.js";
import type { NativeDevice, NativeDemand } from "../native.js";
import type { Planning, Planner } from "../placement/planning.js";
import type { Worker } from "../workers/probe.js";
import { Child } from "./child.js";

export class RemotePlanning implements Planning {
  readonly #child: Child;
  readonly #opened: Promise<unknown>;
  #nextPlanner = 1;

  constructor(backends: string[], workers: Worker[]) {
    this.#child = new Child(workers, { receive: () => undefined, end: () => undefined });
    const endpoints = workers.map(({ endpoint }) => endpoint);
    this.#opened = this.#child.call((call) => ({ type: "open", call, backends, workers: endpoints }));
  }

  /** Those of this process, which that one has too. */
  backends(): Promise<Backend[]> {
    return listBackends();
  }

  async devices(): Promise<NativeDevice[]> {
    await this.#opened;
    return this.#child.call((call) => ({ type: "devices", call }));
  }

  planner(source: string | Uint8Array[]): Planner {
    const planner = this.#nextPlanner++;
    this.#child.send({ type: "planner", planner, source });
    return {
      measure: async (options) => {
        await this.#opened;
        return this.#child.call<NativeDemand>((call) => ({ type: "measure", call, planner, options }));
      },
    };
  }

  /** What is not done yet fails. */
  close(): void {
    this.#child.kill();
  }
}
