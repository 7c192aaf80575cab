import { native } from "./native.js";

/** Something to compute on. */
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
}

/** The devices of every backend that is loaded, in the order in which layers are offloaded to them. */
export function listDevices(): Device[] {
  return native().listDevices().map(withAvailableMemory);
}

/** ggml says that all of the host's memory is free; what this process can have is known to Node.js, limits of containers included. */
export function withAvailableMemory<D extends { backend: string; memoryFree: number }>(device: D): D {
  return device.backend === "CPU" ? { ...device, memoryFree: process.availableMemory() } : device;
}
