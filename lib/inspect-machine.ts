import os from "node:os";
import { computeDevices, cpuFacts, describeDevices, type Device } from "./devices.js";
import { readContainer, type ContainerFacts } from "./machine/container.js";
import type { CpuFacts } from "./machine/cpu.js";
import { thisMachine } from "./machine/files.js";
import { readMemory, type MemoryFacts } from "./machine/memory.js";
import { readNvidia, type NvidiaDriver } from "./machine/nvidia.js";
import { findPciGpus, type PciGpu } from "./machine/pci.js";
import { fileToMeasure } from "./machine/model-files.js";
import { native } from "./native.js";
import { OptionReader, toPath } from "./options.js";

export interface InspectMachineOptions {
  /** Measure how fast all cores together read from memory, which keeps them busy for about a second. Default false. */
  memoryBandwidth?: boolean;
  /**
   * Measure how fast the disk of this model or folder is read, past the page cache: a path or `file:` URL. In a folder without
   * a model of some size, a file of 256 MiB is written for it and removed again. Default: nothing is read.
   */
  disk?: string | URL;
}

/** This machine, and what this process may use of it. */
export interface Machine {
  /** `"linux"`, `"darwin"`, `"win32"`, … */
  platform: NodeJS.Platform;
  cpu: CpuFacts;
  memory: MemoryFacts;
  container: ContainerFacts;
  /** What llama.cpp can compute on. */
  devices: Device[];
  /** GPUs on the PCI bus, whether or not a backend uses them. Linux only; elsewhere none. */
  pciGpus: PciGpu[];
  /** NVIDIA's driver and its GPUs, whether or not a backend uses them. */
  nvidia: NvidiaDriver;
  /** Bytes per second that `disk` was read at; only where it was measured. */
  diskBandwidth?: number;
}

/**
 * Everything that is known of this machine: processor, memory, limits, GPUs and drivers. What takes long happens off the
 * JavaScript thread, and measurements only on request; they run one after the other.
 *
 * Rejects with `INVALID_OPTION`, `MODEL_NOT_FOUND` when there is nothing at `disk`, `LOAD_FAILED` when it cannot be measured,
 * `NATIVE_ADDON_MISSING`.
 */
export async function inspectMachine(options: InspectMachineOptions = {}): Promise<Machine> {
  const read = new OptionReader(options, ["memoryBandwidth", "disk"]);
  const measureMemory = read.boolean("memoryBandwidth", false);
  const disk = read.raw("disk") === undefined ? undefined : toPath(read.raw("disk"));
  const addon = native();

  const nvidia = await readNvidia();
  const devices = describeDevices(await computeDevices(), nvidia);
  const cpu = cpuFacts();
  const memoryBandwidth = measureMemory ? await addon.measureMemoryBandwidth(threadsToMeasure(cpu)) : undefined;
  const measuredCpu = memoryBandwidth === undefined ? cpu : { ...cpu, memoryBandwidth };
  const diskBandwidth = disk === undefined ? undefined : await addon.measureDiskBandwidth(fileToMeasure(disk));
  return {
    platform: process.platform,
    cpu: measuredCpu,
    memory: readMemory(thisMachine, { total: os.totalmem(), available: process.availableMemory() }),
    container: readContainer(thisMachine),
    devices: devices.map((device) => (device.cpu ? { ...device, cpu: measuredCpu } : device)),
    pciGpus: findPciGpus(thisMachine),
    nvidia,
    ...(diskBandwidth !== undefined && { diskBandwidth }),
  };
}

/** One for each core that this process may use. */
function threadsToMeasure({ usableCores, physicalCores, logicalCores }: CpuFacts): number {
  const share = physicalCores === undefined ? 1 : physicalCores / Math.max(1, logicalCores);
  return Math.max(1, Math.round(usableCores * share));
}
