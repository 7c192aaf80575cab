// Disk, folders and limits of the process.

import type { ContainerFacts } from "../../machine/container.js";
import type { ProcessLimit } from "../../machine/memory.js";
import { formatBytes, formatSpeed } from "../format.js";
import type { Check } from "./check.js";

/** What is needed to load large models in seconds, bytes per second. */
const LEAST_DISK_BANDWIDTH = 1e9;

export function checkContainer({ runtime }: ContainerFacts, isWsl: boolean): Check {
  const where = [runtime, isWsl && "Windows Subsystem for Linux"].filter((name) => typeof name === "string");
  return { name: "Container", status: "ok", found: where.length === 0 ? "none" : where.join(", ") };
}

/** A disk that was measured, or why it was not. */
export type DiskState = { location: string; bandwidth: number } | { reason: string };

export function checkDisk(disk: DiskState): Check {
  const name = "Disk bandwidth";
  if ("reason" in disk) return { name, status: "skip", found: disk.reason };
  const found = `${formatSpeed(disk.bandwidth)}, of ${disk.location}`;
  if (disk.bandwidth >= LEAST_DISK_BANDWIDTH) return { name, status: "ok", found };
  return {
    name,
    status: "warn",
    found: `${found}; 1 GB/s or more is good`,
    remedy:
      "Large models load slowly from it. Keep them on a local NVMe disk, not on a network drive, USB or a hard disk.",
  };
}

/** @param free bytes, or why nothing can be written there */
export function checkTemporaryFolder(folder: string, free: number | Error): Check {
  const name = "Temporary files";
  if (typeof free !== "number") {
    return {
      name,
      status: "fail",
      found: `${folder}: ${free.message}`,
      remedy: "Make it writable, or set TMPDIR (on Windows TEMP) to a folder that is.",
    };
  }
  const found = `${folder}, ${formatBytes(free)} free`;
  if (free >= 2 ** 30) return { name, status: "ok", found };
  return { name, status: "warn", found, remedy: "Free room there, or set TMPDIR (on Windows TEMP) to a larger disk." };
}

export function checkOpenFiles(limit: ProcessLimit | undefined): Check {
  const name = "Open files";
  if (!limit) return { name, status: "skip", found: "this system does not say" };
  const found = limit.soft === Infinity ? "no limit" : `at most ${limit.soft}`;
  if (limit.soft >= 1024) return { name, status: "ok", found };
  return { name, status: "warn", found, remedy: "A server with many connections needs more: ulimit -n 65536" };
}
