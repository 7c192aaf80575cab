// Processes that tests start and look at.

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";

export interface Ended {
  code: number | null;
  signal: string | null;
  out: string;
  err: string;
}

/** Runs a script of test/fixtures in a process of its own; the script uses the built package. */
export async function runFixture(script: string, args: string[] = []): Promise<Ended> {
  const child = spawn(process.execPath, [
    "--expose-gc",
    fileURLToPath(new URL(`../fixtures/${script}`, import.meta.url)),
    ...args,
  ]);
  let out = "";
  let err = "";
  child.stdout.on("data", (data: Buffer) => (out += data.toString()));
  child.stderr.on("data", (data: Buffer) => (err += data.toString()));
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve) =>
    child.on("close", (...result) => resolve(result as [number | null, string | null])),
  );
  return { code, signal, out, err };
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Waits until something is so; the test's timeout ends it otherwise. */
export async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isSo())) await delay(10);
}

/** The processes that a process started and that live. Linux. */
export function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
  return text.split(" ").filter(Boolean).map(Number);
}
