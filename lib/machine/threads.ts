// How many threads to compute with.

import fs from "node:fs";
import os from "node:os";
import { readContainer } from "./container.js";
import { thisMachine } from "./files.js";

/**
 * Threads beyond the number of cores only spin: with hyperthreads, half of the logical processors. Threads beyond a container's
 * quota are stopped in the middle of a step, and all others wait for them.
 */
export function defaultThreads(): number {
  const processors = os.availableParallelism();
  const cores = hasHyperthreads() ? Math.floor(processors / 2) : processors;
  return Math.max(1, Math.min(cores, Math.floor(readContainer(thisMachine).cpuQuota ?? cores)));
}

function hasHyperthreads(): boolean {
  if (process.platform !== "linux") return false;
  try {
    return fs.readFileSync("/sys/devices/system/cpu/smt/active", "utf8").trim() === "1";
  } catch {
    return false; // Not all kernels and containers say; then every processor counts as a core.
  }
}
