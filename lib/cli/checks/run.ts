// Gathers what the checks of `coldstart doctor` look at, and runs them.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { missingTools } from "../../../scripts/toolchain.mjs";
import { listBackends } from "../../backends.js";
import { ColdstartError } from "../../errors.js";
import { inspectMachine, type Machine } from "../../inspect-machine.js";
import { readContainer } from "../../machine/container.js";
import { thisMachine } from "../../machine/files.js";
import { parseLimits, readMemory } from "../../machine/memory.js";
import { findModel } from "../../machine/model-files.js";
import { addonPath } from "../../native.js";
import { version } from "../../version.js";
import type { Check } from "./check.js";
import { checkBackends, checkNvidiaDriver, checkNvidiaGpu, checkUnusedGpus } from "./gpu.js";
import {
  checkCpuQuota,
  checkHugePages,
  checkLockLimit,
  checkMemory,
  checkMemoryBandwidth,
  checkMemoryLimit,
  checkNuma,
  checkOvercommit,
  checkSwap,
} from "./memory.js";
import { checkAddon, checkBuildTools, checkInstructions, checkNode, type AddonState, type Tool } from "./software.js";
import { checkContainer, checkDisk, checkOpenFiles, checkTemporaryFolder, type DiskState } from "./system.js";

export interface DoctorOptions {
  /** A model, or a folder with one. Default: the working directory. */
  model?: string;
  /** Whether to measure the bandwidths of memory and disk. */
  measure: boolean;
}

export interface Report {
  checks: Check[];
  /** Absent when the addon cannot be loaded. */
  machine?: Machine;
}

/** Rejects with `MODEL_NOT_FOUND`. */
export async function examine(options: DoctorOptions): Promise<Report> {
  // The working directory need not have the model that is meant.
  const modelFiles = options.model === undefined ? undefined : findModel(options.model);
  const addon = loadAddon();
  const { machine, disk } = "error" in addon ? { machine: undefined, disk: undefined } : await look(options);
  const memory =
    machine?.memory ?? readMemory(thisMachine, { total: os.totalmem(), available: process.availableMemory() });
  const container = machine?.container ?? readContainer(thisMachine);
  const tools = findTools();
  const has = (command: string) => tools.some((tool) => tool.name === command && tool.version !== undefined);
  const isWsl = /microsoft/i.test(os.release());

  const checks = [
    checkNode(process.versions.node, neededNode()),
    checkAddon(addon),
    ...(machine ? [checkInstructions(machine.cpu)] : []),
    checkBuildTools(tools, missingTools({ has }), machine !== undefined),
    ...(machine
      ? [
          checkNvidiaDriver(machine.nvidia, machine.pciGpus, container.runtime !== undefined),
          ...machine.nvidia.gpus.map(checkNvidiaGpu),
          checkBackends(await listBackends(), mayHaveGpu(machine)),
          checkUnusedGpus(machine.devices, machine.nvidia, machine.pciGpus),
        ]
      : []),
    checkContainer(container, isWsl),
    checkCpuQuota(container, machine?.cpu ?? { usableCores: os.availableParallelism() }),
    checkMemoryLimit(container, memory),
    checkMemory(memory, container, modelFiles),
    checkMemoryBandwidth(machine?.cpu ?? {}, modelFiles),
    checkNuma(machine?.cpu ?? {}),
    checkHugePages(memory),
    checkLockLimit(memory, modelFiles),
    checkOvercommit(memory),
    checkSwap(memory),
    checkDisk(disk ?? { reason: "not measured: the addon is missing" }),
    checkTemporaryFolder(os.tmpdir(), roomIn(os.tmpdir())),
    checkOpenFiles(parseLimits(thisMachine.read("/proc/self/limits") ?? "").get("Max open files")),
  ];
  return { checks, ...(machine && { machine }) };
}

/** Only Linux shows what is on the PCI bus, and a GPU need not be there. */
function mayHaveGpu({ platform, pciGpus, nvidia }: Machine): boolean {
  return platform !== "linux" || process.arch === "arm64" || pciGpus.length > 0 || nvidia.gpus.length > 0;
}

function loadAddon(): AddonState {
  try {
    const versions = version();
    return { path: addonPath(), versions };
  } catch (error) {
    return { error: error as Error };
  }
}

function neededNode(): string {
  const manifest = new URL("../../../package.json", import.meta.url);
  return (JSON.parse(fs.readFileSync(manifest, "utf8")) as { engines: { node: string } }).engines.node;
}

/** The machine, and its disk as far as that can be measured: one that cannot is no reason to say nothing. */
async function look({ model = ".", measure }: DoctorOptions): Promise<{ machine: Machine; disk: DiskState }> {
  if (!measure) return { machine: await inspectMachine(), disk: { reason: "not measured" } };
  const machine = await inspectMachine({ memoryBandwidth: true });
  try {
    const { diskBandwidth = 0 } = await inspectMachine({ disk: model });
    return {
      machine: { ...machine, diskBandwidth },
      disk: { location: path.resolve(model), bandwidth: diskBandwidth },
    };
  } catch (error) {
    if (!(error instanceof ColdstartError)) throw error;
    return { machine, disk: { reason: error.message.replace(error.remedy, "").trim() } };
  }
}

/** The tools of scripts/toolchain.mjs, and git. */
function findTools(): Tool[] {
  const compilers = [process.env["CXX"], "c++", "g++", "clang++"].filter(
    (name): name is string => name !== undefined && name !== "",
  );
  const all = ["cmake", ...compilers, "ninja", "make", "git", "ccache"].map((name) => ({
    name,
    version: versionOf(name),
  }));
  // One compiler is enough to show: the one that CMake takes.
  const compiler = all.find(({ name, version: found }) => compilers.includes(name) && found !== undefined);
  return all.filter((tool) => !compilers.includes(tool.name) || tool === compiler);
}

function versionOf(command: string): string | undefined {
  const { error, stdout } = spawnSync(command, ["--version"], { encoding: "utf8", timeout: 10_000 });
  if (error) return undefined;
  // The last number of the first line: GCC has the distribution's before it.
  return /.*?(\d+(?:\.\d+)+)[^.\d]*$/.exec(stdout.split("\n")[0] ?? "")?.[1] ?? "of unknown version";
}

/** Bytes that can be written in `folder`, or why none can. */
function roomIn(folder: string): number | Error {
  try {
    fs.rmdirSync(fs.mkdtempSync(path.join(folder, "coldstart-")));
    const { bavail, bsize } = fs.statfsSync(folder);
    return bavail * bsize;
  } catch (error) {
    return error as Error;
  }
}
