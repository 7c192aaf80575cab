// The container that this process is in, and what it may use there: control groups of version 1 and 2.

import path from "node:path/posix";
import type { MachineFiles } from "./files.js";

export interface ContainerFacts {
  /** `"docker"`, `"podman"`, `"kubernetes"`, `"lxc"`, … Absent outside of a container, and in one that does not show. */
  runtime?: string;
  /** Of the control groups that limit this process; absent where there are none. */
  cgroupVersion?: 1 | 2;
  /** Most bytes of memory; absent without a limit. */
  memoryLimit?: number;
  /** Bytes in use of that limit, without what the kernel can drop at once. */
  memoryUsed?: number;
  /** CPUs' worth of time, such as 1.5; absent without a limit. */
  cpuQuota?: number;
}

interface Mount {
  /** What of the file system is mounted. */
  root: string;
  point: string;
  type: string;
  options: string[];
}

/** Pure: `/proc/self/mountinfo`. */
export function parseMounts(text: string): Mount[] {
  const mounts: Mount[] = [];
  for (const line of text.split("\n")) {
    const [before, after] = line.split(" - ");
    const [, , , root, point] = before?.split(" ") ?? [];
    const [type, , options] = after?.split(" ") ?? [];
    if (root === undefined || point === undefined || type === undefined) continue;
    mounts.push({ root: unescape(root), point: unescape(point), type, options: (options ?? "").split(",") });
  }
  return mounts;
}

/** The kernel writes spaces and the like as "\040". */
function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
}

/** Pure: `/proc/self/cgroup`; of version 2, `controllers` is empty. */
export function parseCgroups(text: string): { controllers: string[]; path: string }[] {
  return [...text.matchAll(/^\d+:([^:]*):(.*)$/gm)].map(([, controllers = "", group = ""]) => ({
    controllers: controllers.split(",").filter((name) => name !== ""),
    path: group,
  }));
}

/** The folders of the group of this process and of those above it, which limit it too. */
function foldersOf(mount: Mount, group: string): string[] {
  // In a container, what is mounted may be the group itself, while /proc still has its name outside.
  let below = "";
  if (mount.root === "/") below = group;
  else if (group === mount.root || group.startsWith(`${mount.root}/`)) below = group.slice(mount.root.length);
  if (below.startsWith("/..")) below = ""; // It is outside of the namespace of the mount.
  const folders: string[] = [];
  for (let folder = path.join(mount.point, below); ; folder = path.dirname(folder)) {
    folders.push(folder.replace(/(.)\/$/, "$1"));
    if (folder.length <= mount.point.length) return folders;
  }
}

interface Hierarchy {
  version: 1 | 2;
  folders: string[];
}

function findHierarchy(files: MachineFiles, controller: string): Hierarchy | undefined {
  const mounts = parseMounts(files.read("/proc/self/mountinfo") ?? "");
  const groups = parseCgroups(files.read("/proc/self/cgroup") ?? "");
  const old = groups.find(({ controllers }) => controllers.includes(controller));
  const oldMount = mounts.find(({ type, options }) => type === "cgroup" && options.includes(controller));
  if (old && oldMount) return { version: 1, folders: foldersOf(oldMount, old.path) };
  const unified = groups.find(({ controllers }) => controllers.length === 0);
  const mount = mounts.find(({ type }) => type === "cgroup2");
  if (unified && mount) return { version: 2, folders: foldersOf(mount, unified.path) };
  return undefined;
}

/** Version 1 writes the largest multiple of a page for no limit, version 2 "max". */
function limitIn(text: string | undefined): number {
  const value = Number(text?.trim() === "max" ? Infinity : (text ?? Infinity));
  return value >= 2 ** 62 ? Infinity : value;
}

function readMemoryLimit(
  files: MachineFiles,
  { version, folders }: Hierarchy,
): { limit: number; used: number } | undefined {
  let tightest: { limit: number; used: number } | undefined;
  for (const folder of folders) {
    const read = (name: string) => files.read(`${folder}/${name}`);
    const limit =
      version === 1
        ? limitIn(read("memory.limit_in_bytes"))
        : Math.min(limitIn(read("memory.max")), limitIn(read("memory.high")));
    if (!Number.isFinite(limit)) continue;
    const usage = Number(read(version === 1 ? "memory.usage_in_bytes" : "memory.current") ?? 0);
    const droppable = version === 1 ? /^total_inactive_file (\d+)$/m : /^inactive_file (\d+)$/m;
    const used = Math.max(0, usage - Number(droppable.exec(read("memory.stat") ?? "")?.[1] ?? 0));
    if (tightest === undefined || limit - used < tightest.limit - tightest.used) tightest = { limit, used };
  }
  return tightest;
}

function readCpuQuota(files: MachineFiles, { version, folders }: Hierarchy): number {
  let least = Infinity;
  for (const folder of folders) {
    const [quota, period] =
      version === 1
        ? [files.read(`${folder}/cpu.cfs_quota_us`), files.read(`${folder}/cpu.cfs_period_us`)]
        : (files.read(`${folder}/cpu.max`)?.trim().split(" ") ?? []);
    const cpus = Number(quota) / Number(period ?? 100_000);
    if (cpus > 0) least = Math.min(least, cpus); // "max" is NaN, and -1 no quota.
  }
  return least;
}

const BY_CGROUP: readonly [pattern: RegExp, runtime: string][] = [
  [/kubepods/, "kubernetes"],
  [/docker/, "docker"],
  [/libpod/, "podman"],
  [/containerd|cri-/, "containerd"],
  [/lxc/, "lxc"],
];

function findRuntime(files: MachineFiles, environment: NodeJS.ProcessEnv): string | undefined {
  if (environment["KUBERNETES_SERVICE_HOST"] !== undefined) return "kubernetes";
  if (files.exists("/.dockerenv")) return "docker";
  if (files.exists("/run/.containerenv")) return "podman";
  const said = files.read("/run/systemd/container")?.trim() ?? environment["container"];
  if (said !== undefined && said !== "") return said;
  const groups = files.read("/proc/self/cgroup") ?? "";
  return BY_CGROUP.find(([pattern]) => pattern.test(groups))?.[1];
}

export function readContainer(files: MachineFiles, environment: NodeJS.ProcessEnv = process.env): ContainerFacts {
  const runtime = findRuntime(files, environment);
  const memoryGroup = findHierarchy(files, "memory");
  const cpuGroup = findHierarchy(files, "cpu");
  const memory = memoryGroup && readMemoryLimit(files, memoryGroup);
  const cpuQuota = cpuGroup ? readCpuQuota(files, cpuGroup) : Infinity;
  const version = memoryGroup?.version ?? cpuGroup?.version;
  return {
    ...(runtime !== undefined && { runtime }),
    ...(version !== undefined && { cgroupVersion: version }),
    ...(memory && { memoryLimit: memory.limit, memoryUsed: memory.used }),
    ...(Number.isFinite(cpuQuota) && { cpuQuota }),
  };
}
