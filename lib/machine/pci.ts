// GPUs on the PCI bus, whether or not anything can compute on them.

import type { MachineFiles } from "./files.js";

export interface PciGpu {
  /** `"0000:c1:00.0"` */
  id: string;
  vendor: "AMD" | "Intel" | "NVIDIA";
  /** The kernel's driver that has it; absent when none does. */
  driver?: string;
}

// Other vendors' display controllers only show a console: those of servers' management and of virtual machines.
const VENDORS: Readonly<Record<string, PciGpu["vendor"]>> = { "0x1002": "AMD", "0x8086": "Intel", "0x10de": "NVIDIA" };

/** Linux only; elsewhere none. */
export function findPciGpus(files: MachineFiles): PciGpu[] {
  const folder = "/sys/bus/pci/devices";
  const gpus: PciGpu[] = [];
  for (const id of files.list(folder).sort()) {
    // A display controller, or a processing accelerator.
    if (!/^0x(03|12)/.test(files.read(`${folder}/${id}/class`) ?? "")) continue;
    const vendor = VENDORS[files.read(`${folder}/${id}/vendor`)?.trim() ?? ""];
    if (vendor === undefined) continue;
    const driver = files.link(`${folder}/${id}/driver`);
    gpus.push({ id, vendor, ...(driver !== undefined && { driver }) });
  }
  return gpus;
}

/**
 * A PCI address in a form to compare: ggml writes "0000:c1:00.0", NVIDIA "00000000:C1:00.0", and a GPU that ggml was told to
 * split in several ends in "-v1". `undefined` for what is none.
 */
export function pciKey(id: string): string | undefined {
  const match = /^([0-9a-f]+):([0-9a-f]+):([0-9a-f]+)\.([0-7])(?:-v\d+)?$/i.exec(id);
  return match
    ?.slice(1, 5)
    .map((part) => parseInt(part, 16).toString(16))
    .join(":");
}

/** The kernel's driver of a PCI device, with its version where it has one: `"amdgpu"`, `"nvidia 580.95.05"`. Linux only. */
export function driverOf(files: MachineFiles, id: string): string | undefined {
  const driver = files.link(`/sys/bus/pci/devices/${id.replace(/-v\d+$/, "")}/driver`);
  if (driver === undefined) return undefined;
  const version = files.read(`/sys/module/${driver.replaceAll("-", "_")}/version`)?.trim();
  return version === undefined || version === "" ? driver : `${driver} ${version}`;
}
