// GPUs, their drivers, and the backends that use them.

import type { Backend } from "../../backends.js";
import type { Device } from "../../devices.js";
import type { NvidiaDriver, NvidiaGpu, ThrottleReason } from "../../machine/nvidia.js";
import { pciKey, type PciGpu } from "../../machine/pci.js";
import { formatBytes } from "../format.js";
import { list, type Check } from "./check.js";

export function checkNvidiaDriver(nvidia: NvidiaDriver, pciGpus: readonly PciGpu[], isContainer: boolean): Check {
  const name = "NVIDIA driver";
  const onBus = pciGpus.filter(({ vendor }) => vendor === "NVIDIA");
  if (nvidia.error === undefined) {
    const version = nvidia.version ?? "of unknown version";
    const cuda = nvidia.cudaVersion === undefined ? "" : `, CUDA up to ${nvidia.cudaVersion}`;
    return { name, status: "ok", found: `${version}${cuda}, ${countOf(nvidia.gpus.length, "GPU")}` };
  }
  if (nvidia.library === undefined) {
    if (onBus.length === 0) return { name, status: "skip", found: "no NVIDIA GPU and no NVIDIA driver" };
    const seen = `${countOf(onBus.length, "NVIDIA GPU")} on the PCI bus, and no NVML: ${nvidia.error}`;
    return {
      name,
      status: "fail",
      found: seen,
      remedy: isContainer
        ? "Give the container the GPUs: install the NVIDIA Container Toolkit on the host and start it with --gpus all."
        : "Install NVIDIA's driver: on Ubuntu, sudo ubuntu-drivers install; elsewhere https://www.nvidia.com/drivers.",
    };
  }
  return { name, status: "fail", found: `${nvidia.library}: ${nvidia.error}`, remedy: driverRemedy(nvidia.error) };
}

/** @param error as NVML words it */
function driverRemedy(error: string): string {
  if (/mismatch/i.test(error)) {
    return "The driver was updated while it was loaded. Restart the machine, or unload and load the kernel module nvidia.";
  }
  if (/not loaded|not found/i.test(error)) {
    return "Load the kernel module (sudo modprobe nvidia); in a container, start it with --gpus all.";
  }
  return "Run nvidia-smi to see what the driver says; restart the machine when the GPU does not answer.";
}

const SLOWDOWNS: Partial<Record<ThrottleReason, string>> = {
  hwSlowdown: "its hardware slows it down",
  swThermalSlowdown: "it is too hot",
  hwThermalSlowdown: "it is too hot",
  hwPowerBrakeSlowdown: "the power supply slows it down",
};

export function checkNvidiaGpu(gpu: NvidiaGpu): Check {
  const name = `NVIDIA GPU ${gpu.index}`;
  if (gpu.error !== undefined) {
    return {
      name,
      status: "fail",
      found: gpu.error,
      remedy: `Reset it (sudo nvidia-smi --gpu-reset -i ${gpu.index}) or restart the machine.`,
    };
  }
  const { memory, temperature, power, powerLimit, utilization } = gpu;
  const facts = [
    gpu.name,
    gpu.pciId,
    memory && `${formatBytes(memory.free)} of ${formatBytes(memory.total)} free`,
    utilization && `${utilization.gpu} % busy`,
    temperature !== undefined && `${temperature} °C`,
    power !== undefined && `${power.toFixed(0)}${powerLimit === undefined ? "" : ` of ${powerLimit.toFixed(0)}`} W`,
  ].filter((fact) => typeof fact === "string");
  const troubles: { found: string; remedy: string; fails?: true }[] = [];
  if ((gpu.eccErrors?.uncorrected ?? 0) > 0) {
    troubles.push({
      found: countOf(gpu.eccErrors?.uncorrected ?? 0, "uncorrected memory error"),
      remedy: `Its memory cannot be trusted: reset it (sudo nvidia-smi --gpu-reset -i ${gpu.index}), and have it replaced if they come again.`,
      fails: true,
    });
  }
  const slowdowns = new Set(
    gpu.throttleReasons?.map((reason) => SLOWDOWNS[reason]).filter((text) => text !== undefined),
  );
  if (slowdowns.size > 0) {
    troubles.push({ found: list([...slowdowns]), remedy: "Check its cooling and its power supply." });
  }
  if (memory && memory.free < memory.total / 2) {
    const pids = gpu.processes?.map(
      ({ pid, memory: used }) => `${pid}${used === undefined ? "" : ` (${formatBytes(used)})`}`,
    );
    const users = pids === undefined || pids.length === 0 ? "" : `: processes ${list(pids)}`;
    troubles.push({
      found: `${formatBytes(memory.used)} in use${users}`,
      remedy: "End what else uses its memory, to have more layers on it.",
    });
  }
  const found = [...facts, ...troubles.map((trouble) => trouble.found)].join(", ");
  if (troubles.length === 0) return { name, status: "ok", found };
  const status = troubles.some(({ fails }) => fails) ? "fail" : "warn";
  return { name, status, found, remedy: troubles.map(({ remedy }) => remedy).join(" ") };
}

/**
 * Backends that were found: those that load, and why others do not.
 * @param mayHaveGpu false where it is known that there is none: then a plugin without a device is no surprise
 */
export function checkBackends(backends: readonly Backend[], mayHaveGpu: boolean): Check {
  const name = "Backends";
  const loaded = backends.filter(({ status }) => status === "loaded");
  const isLoaded = (kind: string) => loaded.some((other) => other.name.toLowerCase() === kind.toLowerCase());
  // Another copy of a backend that is loaded already is not missed.
  const refused = backends.filter((backend) => backend.status === "refused" && !isLoaded(backend.name));
  const idle = loaded.filter(({ reason }) => reason !== undefined);
  const working = loaded.filter(({ reason }) => reason === undefined);
  const reasons = [...refused, ...idle].map(({ name: kind, path, reason }) => `${kind} (${path}): ${reason}`);
  const found = [list(working.map((backend) => backend.name)), ...reasons].join("; ");
  const remedies: string[] = [];
  if (refused.length > 0) {
    remedies.push(
      "Install plugins of the release of llama.cpp that coldstart was built from, with the libraries that they need (coldstart backends lists all that were found).",
    );
  }
  if (idle.length > 0 && mayHaveGpu) {
    remedies.push("Install the GPU's driver; for Vulkan its part of it too, such as mesa-vulkan-drivers.");
  }
  if (remedies.length === 0) return { name, status: "ok", found };
  return { name, status: "warn", found, remedy: remedies.join(" ") };
}

/** GPUs of the machine that no backend uses. */
export function checkUnusedGpus(devices: readonly Device[], nvidia: NvidiaDriver, pciGpus: readonly PciGpu[]): Check {
  const name = "GPUs in use";
  const used = new Set(devices.map(({ pciId }) => (pciId === undefined ? undefined : pciKey(pciId))));
  const gpus = new Map<string, string>();
  for (const { id, vendor } of pciGpus) gpus.set(pciKey(id) ?? id, `${vendor} ${id}`);
  for (const gpu of nvidia.gpus) {
    if (gpu.pciId !== undefined) gpus.set(pciKey(gpu.pciId) ?? gpu.pciId, gpu.name ?? `NVIDIA ${gpu.pciId}`);
  }
  const offloading = devices.filter(({ type }) => type === "gpu" || type === "igpu");
  const idle = [...gpus].filter(([key]) => !used.has(key)).map(([, text]) => text);
  const found = offloading.map((device) => `${device.name} (${device.description})`);
  // A GPU whose backend does not give its address may be any of them.
  const nameless = offloading.filter(({ pciId }) => pciId === undefined).length;
  if (idle.length <= nameless) {
    if (found.length > 0) return { name, status: "ok", found: list(found) };
    return { name, status: "skip", found: "no GPU was found: models run on the CPU" };
  }
  return {
    name,
    status: "warn",
    found: `no loaded backend uses ${list(idle)}`,
    remedy: "Install a plugin of its backend (Vulkan for all, CUDA for NVIDIA: docs/backends.md), and its driver.",
  };
}

function countOf(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}
