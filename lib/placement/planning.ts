// What plans are made with: here, or in another process.

import type { Backend } from "../backends.js";
import type { NativeDevice, NativePlanner } from "../native.js";

export type Planner = Pick<NativePlanner, "measure">;

/** The devices that there are, and what llama.cpp would allocate on them. */
export interface Planning {
  backends(): Promise<Backend[]>;
  devices(): Promise<NativeDevice[]>;
  planner(source: string | Uint8Array[]): Planner;
}
