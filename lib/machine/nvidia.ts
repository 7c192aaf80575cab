// What NVML says of NVIDIA's GPUs, in the units of this API.

import { native, type NativeNvidiaGpu, type NativeNvml } from "../native.js";

/** Why clocks are lower than they could be, by NVML's names. `"unknown (0x…)"` is of a newer driver. */
export type ThrottleReason =
  | "gpuIdle"
  | "applicationsClocksSetting"
  | "swPowerCap"
  | "hwSlowdown"
  | "syncBoost"
  | "swThermalSlowdown"
  | "hwThermalSlowdown"
  | "hwPowerBrakeSlowdown"
  | "displayClockSetting"
  | `unknown (0x${string})`;

/** A GPU as NVIDIA's driver sees it. What the driver or the GPU does not say is absent. */
export interface NvidiaGpu {
  /** NVML's number, in the order of PCI addresses; CUDA's may be another. */
  index: number;
  /** Why the driver cannot ask the GPU. Then there is nothing else. */
  error?: string;
  /** `"NVIDIA H100 80GB HBM3"` */
  name?: string;
  uuid?: string;
  /** `"0000:c1:00.0"` */
  pciId?: string;
  /** `"9.0"` */
  computeCapability?: string;
  /** Bytes. `used` includes what the driver keeps for itself. */
  memory?: { total: number; free: number; used: number };
  /** Bytes per second that its memory can give at most, computed from its clock and its bus. */
  memoryBandwidth?: number;
  /** Percent of the time, in the last second or less, in which something was computed, and in which memory was read or written. */
  utilization?: { gpu: number; memory: number };
  /** Watts. */
  power?: number;
  /** Watts. */
  powerLimit?: number;
  /** Of the GPU itself, degrees Celsius. */
  temperature?: number;
  /** MHz: of the streaming multiprocessors and of the memory, now and at most. */
  clocks?: { sm?: number; maxSm?: number; memory?: number; maxMemory?: number };
  /** Empty when nothing slows the GPU down. */
  throttleReasons?: ThrottleReason[];
  /** Errors in memory since the driver was loaded. Absent without ECC. */
  eccErrors?: { corrected: number; uncorrected: number };
  /** Its link, now and at most; idle GPUs slow it down. */
  pcie?: { generation?: number; lanes?: number; maxGeneration?: number; maxLanes?: number };
  /** Whether the driver stays loaded for it while nobody uses it. Linux. */
  persistenceMode?: boolean;
  /** Whether it is split into several (multi-instance GPU). */
  migMode?: boolean;
  /** What computes on it. `pid` is the host's, also in a container; `memory` in bytes. */
  processes?: { pid: number; memory?: number }[];
}

/** NVIDIA's driver and the GPUs that it sees. */
export interface NvidiaDriver {
  /** `"580.95.05"` */
  version?: string;
  /** The newest CUDA that it supports: `"13.0"` */
  cudaVersion?: string;
  gpus: NvidiaGpu[];
  /** Where its management library, NVML, was found; absent when it was not. */
  library?: string;
  /** Why its GPUs are not known. */
  error?: string;
}

const REASONS = [
  "gpuIdle",
  "applicationsClocksSetting",
  "swPowerCap",
  "hwSlowdown",
  "syncBoost",
  "swThermalSlowdown",
  "hwThermalSlowdown",
  "hwPowerBrakeSlowdown",
  "displayClockSetting",
] as const satisfies readonly ThrottleReason[];

/** Pure: the names of the bits of nvmlClocksEventReasons. */
export function throttleReasons(bits: number): ThrottleReason[] {
  const reasons: ThrottleReason[] = [];
  for (let bit = 0, rest = BigInt(bits); rest > 0n; bit++, rest >>= 1n) {
    if ((rest & 1n) === 0n) continue;
    reasons.push(REASONS[bit] ?? `unknown (0x${(1n << BigInt(bit)).toString(16)})`);
  }
  return reasons;
}

/** `undefined` values left out. */
type Present<T> = { [K in keyof T]?: Exclude<T[K], undefined> };
function present<T extends object>(values: T): Present<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Present<T>;
}

/** Pure: `undefined` where all of `values` are. */
function group<T extends object>(values: T): Present<T> | undefined {
  const known = present(values);
  return Object.keys(known).length === 0 ? undefined : known;
}

function toGpu(gpu: NativeNvidiaGpu): NvidiaGpu {
  const { index, error, name, uuid, pciId, computeCapability, temperature, persistenceMode, migMode, processes } = gpu;
  const { memoryTotal, memoryFree, memoryUsed, maxMemoryClock, memoryBusWidth } = gpu;
  const watts = (milliwatts: number | undefined) => (milliwatts === undefined ? undefined : milliwatts / 1000);
  return {
    index,
    ...present({
      error,
      name,
      uuid,
      pciId,
      computeCapability,
      memory:
        memoryTotal === undefined || memoryFree === undefined || memoryUsed === undefined
          ? undefined
          : { total: memoryTotal, free: memoryFree, used: memoryUsed },
      // Two bits for each wire and cycle: the clock that NVML gives is half of the data rate, for GDDR and HBM alike.
      memoryBandwidth:
        maxMemoryClock === undefined || memoryBusWidth === undefined
          ? undefined
          : (2 * maxMemoryClock * 1e6 * memoryBusWidth) / 8,
      utilization:
        gpu.utilization === undefined || gpu.memoryUtilization === undefined
          ? undefined
          : { gpu: gpu.utilization, memory: gpu.memoryUtilization },
      power: watts(gpu.power),
      powerLimit: watts(gpu.powerLimit),
      temperature,
      clocks: group({ sm: gpu.clock, maxSm: gpu.maxClock, memory: gpu.memoryClock, maxMemory: maxMemoryClock }),
      throttleReasons: gpu.throttleReasons === undefined ? undefined : throttleReasons(gpu.throttleReasons),
      eccErrors:
        gpu.eccCorrected === undefined || gpu.eccUncorrected === undefined
          ? undefined
          : { corrected: gpu.eccCorrected, uncorrected: gpu.eccUncorrected },
      pcie: group({
        generation: gpu.pcieGeneration,
        lanes: gpu.pcieWidth,
        maxGeneration: gpu.maxPcieGeneration,
        maxLanes: gpu.maxPcieWidth,
      }),
      persistenceMode,
      migMode,
      processes,
    }),
  };
}

function toDriver({ library, error, driverVersion: version, cudaVersion, gpus }: NativeNvml): NvidiaDriver {
  const major = Math.floor((cudaVersion ?? 0) / 1000);
  return {
    ...present({
      library,
      error,
      version,
      cudaVersion:
        cudaVersion === undefined || cudaVersion === 0
          ? undefined
          : `${major}.${Math.floor((cudaVersion % 1000) / 10)}`,
    }),
    gpus: gpus.map(toGpu),
  };
}

/** Another NVML than the driver's own, for tests. */
function libraryPath(): string {
  return process.env["COLDSTART_NVML"] ?? "";
}

/** The first call of a process loads the driver's library. */
export async function readNvidia(): Promise<NvidiaDriver> {
  return toDriver(await native().queryNvml(libraryPath()));
}
