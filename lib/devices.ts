import { listBackends } from "./backends.js";
import { nodeCpu, readCpu, type CpuFacts } from "./machine/cpu.js";
import { thisMachine, type MachineFiles } from "./machine/files.js";
import { readNvidia, type NvidiaDriver, type NvidiaGpu } from "./machine/nvidia.js";
import { driverOf, pciKey } from "./machine/pci.js";
import { native, type NativeDevice } from "./native.js";

/** Something to compute on. What the backend, the driver or the system does not say is absent. */
export interface Device {
  /** `"CPU"`, `"CUDA0"`, … */
  name: string;
  /** `"AMD EPYC"`, `"NVIDIA H100"`, … */
  description: string;
  /** `"CPU"`, `"CUDA"`, `"Vulkan"`, … */
  backend: string;
  type: "cpu" | "gpu" | "igpu" | "accelerator";
  /** Bytes; 0 when the backend does not say. */
  memoryTotal: number;
  /** Bytes. */
  memoryFree: number;
  /** Where it is on the PCI bus: `"0000:c1:00.0"`. */
  pciId?: string;
  /** The kernel's driver, with its version where it has one: `"amdgpu"`, `"nvidia 580.95.05"`. */
  driver?: string;
  /** Of NVIDIA's GPUs: `"9.0"`. */
  computeCapability?: string;
  /** Of NVIDIA's GPUs, whichever backend uses them: what the driver's management library (NVML) says. */
  nvidia?: NvidiaGpu;
  /** Of the CPU. */
  cpu?: CpuFacts;
}

/**
 * The devices of all backends (see {@link listBackends}), with what the system and NVIDIA's driver know of them. Nothing is
 * measured; {@link inspectMachine} does that.
 */
export async function listDevices(): Promise<Device[]> {
  const devices = await computeDevices();
  const nvidia = devices.some(({ pciId }) => pciId !== undefined) ? await readNvidia() : undefined;
  return describeDevices(devices, nvidia);
}

/** What the backends say of their devices, and the memory that this process can have. */
export async function computeDevices(): Promise<NativeDevice[]> {
  await listBackends();
  return native().listDevices().map(withAvailableMemory);
}

let cpu: CpuFacts | undefined;

/** The processor; it does not change while a process runs. */
export function cpuFacts(): CpuFacts {
  cpu ??= readCpu(thisMachine, native().backendFeatures("CPU"), nodeCpu());
  return structuredClone(cpu);
}

/** Adds to `devices` what the system and NVIDIA's driver know of them. */
export function describeDevices(
  devices: readonly NativeDevice[],
  nvidia: NvidiaDriver | undefined,
  files: MachineFiles = thisMachine,
): Device[] {
  const gpus = new Map<string, NvidiaGpu>();
  for (const gpu of nvidia?.gpus ?? []) {
    const key = gpu.pciId === undefined ? undefined : pciKey(gpu.pciId);
    if (key !== undefined) gpus.set(key, gpu);
  }
  return devices.map((device) => {
    if (device.backend === "CPU") return { ...device, cpu: cpuFacts() };
    const gpu = device.pciId === undefined ? undefined : gpus.get(pciKey(device.pciId) ?? "");
    const version = nvidia?.version;
    const driver =
      (device.pciId === undefined ? undefined : driverOf(files, device.pciId)) ??
      (gpu && version !== undefined ? `nvidia ${version}` : undefined);
    return {
      ...device,
      ...(driver !== undefined && { driver }),
      ...(gpu?.computeCapability !== undefined && { computeCapability: gpu.computeCapability }),
      ...(gpu && { nvidia: gpu }),
    };
  });
}

/** ggml says that all of the host's memory is free; what this process can have is known to Node.js, limits of containers included. */
export function withAvailableMemory<D extends { backend: string; memoryFree: number }>(device: D): D {
  return device.backend === "CPU" ? { ...device, memoryFree: process.availableMemory() } : device;
}
