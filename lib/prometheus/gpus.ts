// NVIDIA's GPUs under the names that DCGM's exporter has, so that its dashboards and alerts work. Pure.

import type { NvidiaGpu } from "../index.js";
import type { Labels } from "./families.js";

interface GpuFamily {
  name: string;
  help: string;
  of: (gpu: NvidiaGpu) => number | undefined;
}

const MIB = 2 ** 20;

export const GPU_FAMILIES: readonly GpuFamily[] = [
  { name: "DCGM_FI_DEV_GPU_UTIL", help: "GPU utilization (in %).", of: ({ utilization }) => utilization?.gpu },
  { name: "DCGM_FI_DEV_MEM_COPY_UTIL", help: "Memory utilization (in %).", of: ({ utilization }) => utilization?.memory },
  { name: "DCGM_FI_DEV_FB_USED", help: "Framebuffer memory used (in MiB).", of: ({ memory }) => memory && memory.used / MIB },
  { name: "DCGM_FI_DEV_FB_FREE", help: "Framebuffer memory free (in MiB).", of: ({ memory }) => memory && memory.free / MIB },
  { name: "DCGM_FI_DEV_POWER_USAGE", help: "Power draw (in W).", of: ({ power }) => power },
  { name: "DCGM_FI_DEV_GPU_TEMP", help: "GPU temperature (in C).", of: ({ temperature }) => temperature },
  { name: "DCGM_FI_DEV_SM_CLOCK", help: "SM clock frequency (in MHz).", of: ({ clocks }) => clocks?.sm },
  { name: "DCGM_FI_DEV_MEM_CLOCK", help: "Memory clock frequency (in MHz).", of: ({ clocks }) => clocks?.memory },
]; // prettier-ignore

export function labelsOf({ index, uuid, name, pciId }: NvidiaGpu, hostname: string): Labels {
  return {
    gpu: String(index),
    device: `nvidia${index}`,
    Hostname: hostname,
    ...(uuid !== undefined && { UUID: uuid }),
    ...(name !== undefined && { modelName: name }),
    ...(pciId !== undefined && { pci_bus_id: pciId }),
  };
}
