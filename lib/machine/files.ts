// What is read of /proc and /sys, behind an interface: tests put recorded machines in the place of this one.

import fs from "node:fs";
import path from "node:path";

export interface MachineFiles {
  /** The text of a file; `undefined` where there is none or it may not be read. */
  read(file: string): string | undefined;
  /** The names in a folder; none where there is no such folder. */
  list(folder: string): string[];
  /** The last name of where a symbolic link leads. */
  link(file: string): string | undefined;
  exists(file: string): boolean;
}

function attempt<T, U>(action: () => T, otherwise: U): T | U {
  try {
    return action();
  } catch {
    return otherwise; // Systems, kernels and containers differ in what they show.
  }
}

export const thisMachine: MachineFiles = {
  read: (file) => attempt(() => fs.readFileSync(file, "utf8"), undefined),
  list: (folder) => attempt(() => fs.readdirSync(folder), []),
  link: (file) => attempt(() => path.basename(fs.readlinkSync(file)), undefined),
  exists: (file) => fs.existsSync(file),
};

/** The value that a file of /sys shows in brackets among those it may have: "always [madvise] never" -> "madvise". */
export function selected(text: string | undefined): string | undefined {
  return /\[([^\]]+)\]/.exec(text ?? "")?.[1];
}

/** How many there are in a list of /sys: "0-3,8,10-11" -> 7. */
export function countOfList(text: string): number {
  let count = 0;
  for (const [, first, last] of text.matchAll(/(\d+)(?:-(\d+))?/g)) count += Number(last ?? first) - Number(first) + 1;
  return count;
}

/** "512K", "32M", "1048576" -> bytes */
export function bytesOfSize(text: string): number | undefined {
  const match = /^(\d+)\s*([KMG]?)/.exec(text.trim());
  if (!match) return undefined;
  return Number(match[1]) * { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 }[match[2] as "" | "K" | "M" | "G"];
}
