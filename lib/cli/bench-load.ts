// `coldstart bench load`: what loading costs in each mode, from the disk and from memory, beside what the disk can do.

import { execFile } from "node:child_process";
import { createReadStream, statSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { ColdstartError } from "../errors.js";
import type { LoadMode, LoadOptions } from "../load-options.js";
import { native } from "../native.js";
import { invalidOption } from "../options.js";
import { formatTable } from "./format.js";
import type { LoadOnce } from "./load-once.js";

export interface BenchLoadFlags {
  modes: string;
  rounds: number;
  contextLength: number;
  gpuLayers?: number | "max" | "auto";
  threads?: number;
  json?: boolean;
}

/** A load mode, read ahead or not, locked or not: `"copy+prefetch"`. */
interface Contender {
  name: string;
  load: Pick<LoadOptions, "loadMode" | "prefetch" | "mlock">;
}

/** Medians over the rounds. */
interface Row extends LoadOnce {
  mode: string;
  cache: "cold" | "warm";
  bytesPerSecond: number;
  /** Of the disk's bandwidth; of cold loads. */
  diskShare: number | undefined;
}

interface Report {
  path: string;
  files: number;
  bytes: number;
  rounds: number;
  /** Undefined where it could not be measured; then `notes` says why. */
  diskBytesPerSecond: number | undefined;
  /** No load from the disk can be faster. */
  floorMs: number | undefined;
  rows: Row[];
  /** What makes the figures other than they seem. */
  notes: string[];
}

export async function benchLoad(path: string, options: BenchLoadFlags): Promise<void> {
  const contenders = options.modes.split(",").map(toContender);
  if (!Number.isInteger(options.rounds) || options.rounds < 1)
    throw invalidOption("rounds", options.rounds, "a whole number of at least 1");
  const report = await measure(path, contenders, options);
  console.log(options.json ? JSON.stringify(report, null, 2) : format(report));
}

function toContender(name: string): Contender {
  const [mode, ...extras] = name.split("+");
  const known = ["auto", "mmap", "copy", "direct"].includes(mode ?? "");
  if (!known || extras.some((extra) => extra !== "prefetch" && extra !== "mlock")) {
    throw invalidOption("modes", name, "auto, mmap, copy or direct, with +prefetch or +mlock behind it or not");
  }
  const loadMode = mode as LoadMode;
  // What is chosen for a user includes reading ahead.
  const prefetch = loadMode === "auto" || extras.includes("prefetch");
  return { name, load: { loadMode, prefetch, mlock: extras.includes("mlock") } };
}

async function measure(path: string, contenders: Contender[], options: BenchLoadFlags): Promise<Report> {
  const notes = new Set<string>();
  const files = await native().modelFiles(path);
  const bytes = files.reduce((sum, file) => sum + statSync(file).size, 0);
  const disk = await native()
    .measureDiskBandwidth(files.reduce((a, b) => (statSync(b).size > statSync(a).size ? b : a)))
    .catch((error: unknown) => void notes.add(error instanceof ColdstartError ? error.message : String(error)));

  const { contextLength, gpuLayers, threads, rounds } = options;
  const common = JSON.parse(JSON.stringify({ contextLength, gpuLayers, threads })) as LoadOptions; // without what is not given
  const results = new Map<string, LoadOnce[]>();
  const run = async ({ name, load }: Contender, cache: Row["cache"], round: number) => {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[Kround ${round + 1} of ${rounds}: ${name}, ${cache}`);
    const result = await loadOnce(path, { ...common, ...load });
    for (const note of result.notes) notes.add(`${name}: ${note}`);
    const key = `${name} ${cache}`;
    results.set(key, [...(results.get(key) ?? []), result]);
  };
  // In turn, so that what changes on the machine meanwhile meets all of them.
  for (let round = 0; round < rounds; round++) {
    for (const contender of contenders) {
      for (const file of files) noteCached(await native().forgetFile(file), notes);
      await run(contender, "cold", round);
    }
    for (const contender of contenders) {
      await readIntoCache(files);
      await run(contender, "warm", round);
    }
  }
  if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");

  const rows = contenders.flatMap(({ name }) =>
    (["cold", "warm"] as const).map((cache): Row => {
      const all = results.get(`${name} ${cache}`) ?? [];
      const loadMs = median(all.map((one) => one.loadMs));
      const bytesPerSecond = (bytes / loadMs) * 1000;
      return {
        mode: name,
        cache,
        loadMs,
        firstTokenMs: median(all.map((one) => one.firstTokenMs)),
        bytesPerSecond,
        diskShare: cache === "cold" && disk !== undefined ? bytesPerSecond / disk : undefined,
        rssBytes: median(all.map((one) => one.rssBytes)),
        peakRssBytes: median(all.map((one) => one.peakRssBytes)),
        loadMode: all[0]?.loadMode ?? "mmap",
        notes: all[0]?.notes ?? [],
      };
    }),
  );
  return {
    path,
    files: files.length,
    bytes,
    rounds,
    diskBytesPerSecond: disk ?? undefined,
    floorMs: disk === undefined ? undefined : (bytes / disk) * 1000,
    rows,
    notes: [...notes],
  };
}

async function loadOnce(path: string, load: LoadOptions): Promise<LoadOnce> {
  const self = fileURLToPath(import.meta.url);
  const script = fileURLToPath(new URL(`./load-once${self.endsWith(".ts") ? ".ts" : ".js"}`, import.meta.url));
  const args = [...process.execArgv, "--disable-warning=ColdstartWarning", script, JSON.stringify({ path, load })];
  try {
    return JSON.parse((await promisify(execFile)(process.execPath, args)).stdout) as LoadOnce;
  } catch (cause) {
    const { stderr = "" } = cause as { stderr?: string };
    const reason = /^.*ColdstartError: (.*)$/m.exec(stderr)?.[1] ?? (cause as Error).message;
    throw new ColdstartError("LOAD_FAILED", `A load with ${JSON.stringify(load)} failed: ${reason}`, {
      remedy: "Leave that mode out with --modes.",
      details: { load },
      cause,
    });
  }
}

function noteCached(cached: number | undefined, notes: Set<string>): void {
  if (cached === undefined) {
    notes.add(
      "This system does not say what is in its page cache: cold loads may be warm ones. Start the machine anew before one.",
    );
  } else if (cached > 0.01) {
    notes.add(
      "The files could not be taken out of the page cache, because another process uses them: cold loads are warm ones, in part or in all.",
    );
  }
}

async function readIntoCache(files: string[]): Promise<void> {
  for (const file of files) {
    for await (const _ of createReadStream(file, { highWaterMark: 4 * 2 ** 20 }));
  }
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const [low, high] = [sorted[Math.ceil(sorted.length / 2) - 1] ?? NaN, sorted[middle] ?? NaN];
  return (low + high) / 2;
}

function format({ path, files, bytes, rounds, diskBytesPerSecond, floorMs, rows, notes }: Report): string {
  const gigabytes = (value: number) => (value / 1e9).toFixed(2);
  const head = [["Model", `${path}, ${gigabytes(bytes)} GB${files > 1 ? ` in ${files} files` : ""}`]];
  if (diskBytesPerSecond !== undefined && floorMs !== undefined) {
    head.push(["Disk", `${gigabytes(diskBytesPerSecond)} GB/s: at least ${floorMs.toFixed(0)} ms`]);
  }
  head.push(["Runs", `medians of ${rounds}, each in a process of its own`]);
  const table = [
    ["MODE", "CACHE", "LOADED", "FIRST TOKEN", "GB/S", "OF DISK", "RSS GB", "PEAK GB"],
    ...rows.map((row) => [
      row.mode === "auto" ? `auto (${row.loadMode})` : row.mode,
      row.cache,
      `${row.loadMs.toFixed(0)} ms`,
      `${row.firstTokenMs.toFixed(0)} ms`,
      gigabytes(row.bytesPerSecond),
      row.diskShare === undefined ? "-" : `${(row.diskShare * 100).toFixed(0)} %`,
      gigabytes(row.rssBytes),
      gigabytes(row.peakRssBytes),
    ]),
  ];
  return [formatTable(head), "", formatTable(table), ...notes.map((note) => `\n${note}`)].join("\n");
}
