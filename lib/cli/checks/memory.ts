// Main memory: how much, how fast, and how the kernel gives it.

import type { ContainerFacts } from "../../machine/container.js";
import type { CpuFacts } from "../../machine/cpu.js";
import type { MemoryFacts } from "../../machine/memory.js";
import type { ModelFiles } from "../../machine/model-files.js";
import { formatBytes, formatSpeed } from "../format.js";
import type { Check } from "./check.js";

const GIB = 2 ** 30;

/** What this process can still have. */
export function availableMemory(memory: MemoryFacts, { memoryLimit, memoryUsed = 0 }: ContainerFacts): number {
  return memoryLimit === undefined
    ? memory.available
    : Math.min(memory.available, Math.max(0, memoryLimit - memoryUsed));
}

export function checkMemory(memory: MemoryFacts, container: ContainerFacts, model?: ModelFiles): Check {
  const name = "Memory";
  const available = availableMemory(memory, container);
  const found = `${formatBytes(available)} of ${formatBytes(memory.total)} available`;
  if (model && model.bytes > available) {
    return {
      name,
      status: "warn",
      found: `${found}, and the model has ${formatBytes(model.bytes)}`,
      remedy:
        "What does not fit is read from the disk again and again. Free memory, use a smaller quantization, or put layers on a GPU.",
    };
  }
  if (available < GIB) {
    return { name, status: "warn", found, remedy: "End other processes: most models need more than 1 GiB." };
  }
  return { name, status: "ok", found };
}

export function checkMemoryLimit(container: ContainerFacts, memory: MemoryFacts): Check {
  const name = "Memory limit";
  const { memoryLimit, memoryUsed = 0, cgroupVersion } = container;
  if (cgroupVersion === undefined) return { name, status: "skip", found: "no control groups" };
  if (memoryLimit === undefined || memoryLimit >= memory.total) {
    return { name, status: "ok", found: `none (control groups, version ${cgroupVersion})` };
  }
  const found = `${formatBytes(memoryLimit)}, of which ${formatBytes(memoryUsed)} are in use (control groups, version ${cgroupVersion})`;
  if (memoryUsed < 0.9 * memoryLimit) return { name, status: "ok", found };
  return {
    name,
    status: "warn",
    found,
    remedy:
      "The kernel ends processes that exceed it. Give the container more: docker run --memory, or resources.limits.memory.",
  };
}

export function checkCpuQuota({ cpuQuota, cgroupVersion }: ContainerFacts, cpu: Pick<CpuFacts, "usableCores">): Check {
  const name = "CPU quota";
  if (cgroupVersion === undefined) return { name, status: "skip", found: "no control groups" };
  if (cpuQuota === undefined || cpuQuota >= cpu.usableCores) {
    return { name, status: "ok", found: `none (${cpu.usableCores} usable)` };
  }
  const found = `${Number(cpuQuota.toFixed(2))} of ${cpu.usableCores} CPUs; threads: "auto" keeps to it`;
  if (cpuQuota >= 1) return { name, status: "ok", found };
  return {
    name,
    status: "warn",
    found,
    remedy: "With less than one, each token waits for its share of time: docker run --cpus 1, or resources.limits.cpu.",
  };
}

/** What one socket with one module of memory gives, and more: below it something is wrong. Bytes per second. */
const LEAST_MEMORY_BANDWIDTH = 5e9;

export function checkMemoryBandwidth(
  { memoryBandwidth, caches = [] }: Pick<CpuFacts, "memoryBandwidth" | "caches">,
  model?: ModelFiles,
): Check {
  const name = "Memory bandwidth";
  if (memoryBandwidth === undefined) return { name, status: "skip", found: "not measured" };
  // Each token reads all weights of a dense model once; what fits a cache is not read from memory.
  const isLarge = model !== undefined && model.bytes > Math.max(0, ...caches.map(({ size }) => size));
  const bytes = isLarge ? model.bytes : 4e9;
  const rate = memoryBandwidth / bytes;
  const found =
    `${formatSpeed(memoryBandwidth)}: a dense model of ${isLarge ? formatBytes(bytes) : "4 GB"} decodes at most ` +
    `${rate < 10 ? rate.toFixed(1) : rate.toFixed(0)} tokens/s on the CPU, one text at a time`;
  if (memoryBandwidth >= LEAST_MEMORY_BANDWIDTH) return { name, status: "ok", found };
  return {
    name,
    status: "warn",
    found,
    remedy:
      "That is little: end what else uses memory, put a module into every memory channel, or use a larger virtual machine.",
  };
}

export function checkHugePages({ transparentHugePages }: MemoryFacts): Check {
  const name = "Huge pages";
  if (transparentHugePages === undefined) return { name, status: "skip", found: "this system does not say" };
  if (transparentHugePages === "always") return { name, status: "ok", found: "transparent: always" };
  if (transparentHugePages === "madvise") {
    // llama.cpp never asks for them; glibc's allocator does when it is told to.
    const tunable = "GLIBC_TUNABLES=glibc.malloc.hugetlb=1";
    return { name, status: "ok", found: `transparent: madvise, used with ${tunable} in the environment` };
  }
  return {
    name,
    status: "warn",
    found: "transparent: never",
    remedy: "Let programs ask for them: echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
  };
}

export function checkLockLimit({ lockLimit }: MemoryFacts, model?: ModelFiles): Check {
  const name = "Locked memory";
  if (lockLimit === undefined) return { name, status: "skip", found: "this system does not say" };
  if (lockLimit === Infinity) return { name, status: "ok", found: "no limit" };
  const found = `at most ${formatBytes(lockLimit)}`;
  if (!model || model.bytes <= lockLimit) {
    return { name, status: "ok", found: `${found}; it matters only with mlock: true` };
  }
  return {
    name,
    status: "warn",
    found: `${found}, and the model has ${formatBytes(model.bytes)}`,
    remedy:
      "It matters only with mlock: true. Raise the limit: ulimit -l unlimited, LimitMEMLOCK=infinity in a systemd unit, or docker run --ulimit memlock=-1.",
  };
}

export function checkOvercommit({ overcommit }: MemoryFacts): Check {
  const name = "Overcommit";
  if (overcommit === undefined) return { name, status: "skip", found: "this system does not say" };
  if (overcommit !== "strict") return { name, status: "ok", found: overcommit };
  return {
    name,
    status: "warn",
    found: "strict: the kernel refuses memory that it may not have",
    remedy: "Loading may fail although memory is free. Let the kernel decide: sudo sysctl vm.overcommit_memory=0",
  };
}

export function checkSwap({ swapTotal, swapFree, total }: MemoryFacts): Check {
  const name = "Swap";
  if (swapTotal === undefined || swapFree === undefined)
    return { name, status: "skip", found: "this system does not say" };
  if (swapTotal === 0) return { name, status: "ok", found: "none" };
  const used = swapTotal - swapFree;
  const found = `${formatBytes(used)} of ${formatBytes(swapTotal)} in use`;
  if (used < total / 10) return { name, status: "ok", found };
  return {
    name,
    status: "warn",
    found,
    remedy: "Memory is short: end other processes, or keep weights from being swapped out with mlock: true.",
  };
}

export function checkNuma({ numaNodes, sockets }: Pick<CpuFacts, "numaNodes" | "sockets">): Check {
  const name = "NUMA";
  if (numaNodes === undefined) return { name, status: "skip", found: "this system does not say" };
  if (numaNodes < 2) return { name, status: "ok", found: "1 node" };
  return {
    name,
    status: "warn",
    found: `${numaNodes} nodes${sockets === undefined ? "" : `, ${sockets} sockets`}: memory of another node is slower`,
    remedy:
      "Keep the process on one node (numactl --cpunodebind=0 --membind=0), or spread its memory (numactl --interleave=all).",
  };
}
