// What the processor is: /proc and /sys on Linux, Node.js elsewhere.

import os from "node:os";
import { bytesOfSize, countOfList, type MachineFiles } from "./files.js";
import { namesFromFeatures, namesFromFlags } from "./instruction-sets.js";

/** The processor, and what the CPU backend in use makes of it. */
export interface CpuFacts {
  /** `"AMD EPYC 9654 96-Core Processor"`, `"4 x Cortex-A55 + 4 x Cortex-A76"`, … */
  model: string;
  /** `"x64"`, `"arm64"`, … */
  architecture: string;
  /** Absent where the system does not say. */
  sockets?: number;
  /** Absent where the system does not say. */
  physicalCores?: number;
  /** Hardware threads of the machine. */
  logicalCores: number;
  /** Hardware threads that this process may run on. */
  usableCores: number;
  /** Groups of processors with memory of their own; absent where the system does not say. */
  numaNodes?: number;
  /** `"AVX2"`, `"AVX-512"`, `"NEON"`, … that the processor has. Absent where the system does not say. */
  instructionSets?: string[];
  /** Those that the CPU backend in use was compiled for. */
  compiledFor: string[];
  /** Those of the first core; absent where the system does not say. */
  caches?: CpuCache[];
  /** Bytes per second that all cores read from memory together; only where it was measured. */
  memoryBandwidth?: number;
}

export interface CpuCache {
  level: number;
  type: "data" | "instruction" | "unified";
  /** Bytes of one. */
  size: number;
  /** Hardware threads that share one. */
  sharedBy: number;
}

/** `/proc/cpuinfo`, as far as it says. */
export interface CpuInfo {
  model?: string;
  logicalCores: number;
  physicalCores?: number;
  sockets?: number;
  /** Flags, features or extensions that every processor has. */
  flags: Set<string>;
}

const ARM_PARTS: Readonly<Record<string, string>> = {
  "0x41:0xd03": "Cortex-A53", "0x41:0xd04": "Cortex-A35", "0x41:0xd05": "Cortex-A55", "0x41:0xd07": "Cortex-A57",
  "0x41:0xd08": "Cortex-A72", "0x41:0xd09": "Cortex-A73", "0x41:0xd0a": "Cortex-A75", "0x41:0xd0b": "Cortex-A76",
  "0x41:0xd0c": "Neoverse-N1", "0x41:0xd0d": "Cortex-A77", "0x41:0xd40": "Neoverse-V1", "0x41:0xd41": "Cortex-A78",
  "0x41:0xd44": "Cortex-X1", "0x41:0xd46": "Cortex-A510", "0x41:0xd47": "Cortex-A710", "0x41:0xd48": "Cortex-X2",
  "0x41:0xd49": "Neoverse-N2", "0x41:0xd4d": "Cortex-A715", "0x41:0xd4e": "Cortex-X3", "0x41:0xd4f": "Neoverse-V2",
  "0x41:0xd80": "Cortex-A520", "0x41:0xd81": "Cortex-A720", "0x41:0xd82": "Cortex-X4", "0x41:0xd84": "Neoverse-V3",
  "0x41:0xd8e": "Neoverse-N3", "0x48:0xd01": "Kunpeng-920", "0x4e:0x004": "Carmel", "0x51:0x001": "Oryon",
  "0xc0:0xac3": "Ampere-1", "0xc0:0xac4": "Ampere-1a",
}; // prettier-ignore

/** Pure: reads the text of `/proc/cpuinfo` of x86, ARM and RISC-V kernels. */
export function parseCpuInfo(text: string): CpuInfo {
  const processors = text
    .split(/\n\s*\n/)
    .map((block) => {
      const fields = new Map<string, string>();
      for (const line of block.split("\n")) {
        const colon = line.indexOf(":");
        if (colon > 0) fields.set(line.slice(0, colon).trim(), line.slice(colon + 1).trim());
      }
      return fields;
    })
    // Some ARM kernels end with a block about the board.
    .filter((fields) => /^\d+$/.test(fields.get("processor") ?? ""));
  const first = processors[0];
  if (!first) return { logicalCores: 0, flags: new Set() };

  let flags: Set<string> | undefined;
  for (const processor of processors) {
    const own = flagsOf(processor);
    flags = flags === undefined ? own : new Set([...flags].filter((flag) => own.has(flag)));
  }
  const has = (name: string) => processors.every((processor) => processor.has(name));
  const distinct = (...names: string[]) =>
    new Set(processors.map((processor) => names.map((name) => processor.get(name)).join("/"))).size;
  const model = first.get("model name") ?? first.get("cpu model") ?? armModel(processors) ?? first.get("uarch");
  return {
    ...(model !== undefined && model !== "" && { model }),
    logicalCores: processors.length,
    ...(has("physical id") && { sockets: distinct("physical id") }),
    ...(has("physical id") && has("core id") && { physicalCores: distinct("physical id", "core id") }),
    flags: flags ?? new Set(),
  };
}

function flagsOf(processor: ReadonlyMap<string, string>): Set<string> {
  const isa = processor.get("isa");
  if (isa !== undefined) {
    // "rv64imafdcv_zicbom_zfh": single letters, then words.
    const [letters = "", ...words] = isa.replace(/^rv(32|64)/, "").split("_");
    return new Set([...Array.from(letters), ...words]);
  }
  return new Set(
    (processor.get("flags") ?? processor.get("Features") ?? "").split(/\s+/).filter((flag) => flag !== ""),
  );
}

/** "Neoverse-N1", or for processors with cores of several kinds "4 x Cortex-A55 + 4 x Cortex-A76". */
function armModel(processors: readonly ReadonlyMap<string, string>[]): string | undefined {
  const counts = new Map<string, number>();
  for (const processor of processors) {
    const part = ARM_PARTS[`${processor.get("CPU implementer")}:${processor.get("CPU part")}`];
    if (part === undefined) return undefined;
    counts.set(part, (counts.get(part) ?? 0) + 1);
  }
  if (counts.size < 2) return [...counts.keys()][0];
  return [...counts].map(([part, count]) => `${count} x ${part}`).join(" + ");
}

/** Where `/proc/cpuinfo` does not say (ARM, RISC-V), /sys does. */
function countFromTopology(files: MachineFiles): { sockets: number; physicalCores: number } | undefined {
  const folder = "/sys/devices/system/cpu";
  const sockets = new Set<string>();
  const cores = new Set<string>();
  for (const cpu of files.list(folder)) {
    if (!/^cpu\d+$/.test(cpu)) continue;
    const socket = files.read(`${folder}/${cpu}/topology/physical_package_id`)?.trim();
    const core = files.read(`${folder}/${cpu}/topology/core_id`)?.trim();
    if (socket === undefined || core === undefined) continue; // One that is offline.
    const siblings = files.read(`${folder}/${cpu}/topology/thread_siblings_list`)?.trim() ?? core;
    sockets.add(socket);
    cores.add(`${socket}/${siblings}`);
  }
  return cores.size === 0 ? undefined : { sockets: sockets.size, physicalCores: cores.size };
}

function readCaches(files: MachineFiles): CpuCache[] {
  const folder = "/sys/devices/system/cpu/cpu0/cache";
  const caches: CpuCache[] = [];
  for (const index of files.list(folder).sort()) {
    const value = (name: string) => files.read(`${folder}/${index}/${name}`)?.trim();
    const size = bytesOfSize(value("size") ?? "");
    const type = value("type")?.toLowerCase();
    if (size === undefined || (type !== "data" && type !== "instruction" && type !== "unified")) continue;
    caches.push({
      level: Number(value("level")),
      type,
      size,
      sharedBy: countOfList(value("shared_cpu_list") ?? "0"),
    });
  }
  return caches;
}

/** What Node.js knows on every system. */
export interface NodeCpu {
  platform: NodeJS.Platform;
  architecture: string;
  models: string[];
  usableCores: number;
}

export function nodeCpu(): NodeCpu {
  const models = os.cpus().map(({ model }) => model.trim());
  return { platform: process.platform, architecture: os.arch(), models, usableCores: os.availableParallelism() };
}

/** @param features of ggml's CPU backend */
export function readCpu(
  files: MachineFiles,
  features: Readonly<Record<string, string>>,
  { platform, architecture, models, usableCores }: NodeCpu,
): CpuFacts {
  const compiledFor = namesFromFeatures(architecture, features);
  const named = models.find((model) => model !== "" && model !== "unknown");
  const info = platform === "linux" ? parseCpuInfo(files.read("/proc/cpuinfo") ?? "") : undefined;
  if (!info) {
    return { model: named ?? "unknown", architecture, logicalCores: models.length, usableCores, compiledFor };
  }
  const topology =
    info.sockets === undefined || info.physicalCores === undefined ? countFromTopology(files) : undefined;
  const sockets = info.sockets ?? topology?.sockets;
  const physicalCores = info.physicalCores ?? topology?.physicalCores;
  const nodes = files.read("/sys/devices/system/node/has_cpu") ?? files.read("/sys/devices/system/node/online");
  const caches = readCaches(files);
  return {
    model: info.model ?? named ?? "unknown",
    architecture,
    ...(sockets !== undefined && { sockets }),
    ...(physicalCores !== undefined && { physicalCores }),
    logicalCores: info.logicalCores || models.length,
    usableCores,
    ...(nodes !== undefined && { numaNodes: countOfList(nodes) }),
    ...(info.flags.size > 0 && { instructionSets: namesFromFlags(architecture, info.flags) }),
    compiledFor,
    ...(caches.length > 0 && { caches }),
  };
}
