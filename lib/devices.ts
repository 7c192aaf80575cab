import { listBackends } from "./backends.js";
import { native } from "./native.js";

/** Something to compute on. */
export interface Device {
  /** `"CPU"`, `"CUDA0"`, … */
  name: string;
  /** `"AMD EPYC"`, `"NVIDIA H100"`, … */
  description: string;
  /** `"CPU"`, `"CUDA"`, `"Vulkan"`, … */
  backend: string;
  /** Where it is on the PCI bus: `"0000:c1:00.0"`. */
  pciId?: string;
  type: "cpu" | "gpu" | "igpu" | "accelerator";
  /** Bytes; 0 when the backend does not say. */
  memoryTotal: number;
  /** Bytes. */
  memoryFree: number;
}

/** The devices of all backends (see `listBackends()`). */
export async function listDevices(): Promise<Device[]> {
  await listBackends();
  return native().listDevices().map(withAvailableMemory);
}

/** ggml says that all of the host's memory is free; what this process can have is known to Node.js, limits of containers included. */
export function withAvailableMemory<D extends { backend: string; memoryFree: number }>(device: D): D {
  return device.backend === "CPU" ? { ...device, memoryFree: process.availableMemory() } : device;
}
