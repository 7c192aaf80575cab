// Main memory, and what the kernel does with it.

import { selected, type MachineFiles } from "./files.js";

/** Main memory. Bytes. */
export interface MemoryFacts {
  total: number;
  /** What this process can still have, limits of containers included. */
  available: number;
  swapTotal?: number;
  swapFree?: number;
  /** Linux: when the kernel gives memory in large pages without being asked. */
  transparentHugePages?: "always" | "madvise" | "never";
  /** Linux: `vm.overcommit_memory`. `"strict"` refuses memory that may not be there when it is used. */
  overcommit?: "heuristic" | "always" | "strict";
  /** Most bytes that this process may lock (`mlock`); `Infinity` without a limit. Absent where the system does not say. */
  lockLimit?: number;
}

/** Pure: `/proc/meminfo` in bytes, by its names. */
export function parseMemInfo(text: string): Map<string, number> {
  const values = new Map<string, number>();
  for (const [, name, value, unit] of text.matchAll(/^([^:\s]+):\s+(\d+)( kB)?$/gm))
    values.set(name ?? "", Number(value) * (unit === undefined ? 1 : 1024));
  return values;
}

export interface ProcessLimit {
  soft: number;
  hard: number;
}

/** Pure: `/proc/self/limits` by its names; `Infinity` for no limit. */
export function parseLimits(text: string): Map<string, ProcessLimit> {
  const amount = (word: string) => (word === "unlimited" ? Infinity : Number(word));
  const limits = new Map<string, ProcessLimit>();
  for (const [, name = "", soft = "", hard = ""] of text.matchAll(
    /^(Max [a-z ]+?) {2,}(\d+|unlimited) +(\d+|unlimited)/gm,
  ))
    limits.set(name, { soft: amount(soft), hard: amount(hard) });
  return limits;
}

/** Bit of `CAP_IPC_LOCK` in the sets of capabilities of `/proc/self/status`. */
const CAP_IPC_LOCK = 14n;

/** Whether the limit on locked memory does not hold for this process. Pure. */
export function mayLockAll(status: string): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  return effective !== undefined && ((BigInt(`0x${effective}`) >> CAP_IPC_LOCK) & 1n) === 1n;
}

const OVERCOMMIT = ["heuristic", "always", "strict"] as const;

export function readMemory(
  files: MachineFiles,
  { total, available }: Pick<MemoryFacts, "total" | "available">,
): MemoryFacts {
  const info = parseMemInfo(files.read("/proc/meminfo") ?? "");
  const swapTotal = info.get("SwapTotal");
  const swapFree = info.get("SwapFree");
  const hugePages = selected(files.read("/sys/kernel/mm/transparent_hugepage/enabled"));
  const overcommit = OVERCOMMIT[Number(files.read("/proc/sys/vm/overcommit_memory") ?? NaN)];
  const locked = parseLimits(files.read("/proc/self/limits") ?? "").get("Max locked memory")?.soft;
  const lockLimit = mayLockAll(files.read("/proc/self/status") ?? "") ? Infinity : locked;
  return {
    total: info.get("MemTotal") ?? total,
    available,
    ...(swapTotal !== undefined && { swapTotal }),
    ...(swapFree !== undefined && { swapFree }),
    ...(isHugePages(hugePages) && { transparentHugePages: hugePages }),
    ...(overcommit !== undefined && { overcommit }),
    ...(lockLimit !== undefined && { lockLimit }),
  };
}

function isHugePages(text: string | undefined): text is "always" | "madvise" | "never" {
  return text === "always" || text === "madvise" || text === "never";
}
