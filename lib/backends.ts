// Backends that come as plugins: where they are looked for, and which are used.

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { ColdstartError } from "./errors.js";
import { addonPath, native } from "./native.js";

/** A backend: what computes on one kind of device. */
export interface Backend {
  /** `"CPU"`, `"CUDA"`, `"Vulkan"`, … */
  name: string;
  /** The library it is in. */
  path: string;
  /** `"coldstart"` for those built or shipped with it, the name of an npm package, or `"COLDSTART_BACKEND_PATH"`. */
  source: string;
  status: "loaded" | "refused";
  /** Why it was refused, or why it has no devices. */
  reason: string | undefined;
  /** Names of its devices. */
  devices: string[];
}

/** A library found, not loaded. */
export interface PluginFile {
  /** `"cuda"`, `"vulkan"`, … as in the file's name. */
  kind: string;
  path: string;
  source: string;
  /** The release of llama.cpp it was built from, where something says so. */
  release: string | undefined;
}

const PLATFORMS: Partial<Record<NodeJS.Platform, { prefix: string; suffix: string; packages: string }>> = {
  linux: { prefix: "lib", suffix: ".so", packages: "linux" },
  darwin: { prefix: "lib", suffix: ".dylib", packages: "mac" },
  win32: { prefix: "", suffix: ".dll", packages: "win" },
};
const { prefix, suffix, packages } = PLATFORMS[process.platform] ?? { prefix: "lib", suffix: ".so", packages: "" };

/** `"libggml-cuda.so"` -> `"cuda"`; undefined for what is no GPU backend. */
export function pluginKind(file: string): string | undefined {
  if (!file.startsWith(`${prefix}ggml-`) || !file.endsWith(suffix)) return undefined;
  const kind = file.slice(`${prefix}ggml-`.length, -suffix.length);
  return /^(base|cpu.*|rpc)$/.test(kind) || kind.includes(".") ? undefined : kind;
}

/**
 * The plugins on this machine, those to prefer first: our own, those of installed packages `@node-llama-cpp/…`, those of
 * `COLDSTART_BACKEND_PATH` (files or folders, separated like PATH).
 */
export function findPlugins(
  own: string = path.dirname(addonPath()),
  folders: string[] = moduleFolders(),
  extra: string = process.env["COLDSTART_BACKEND_PATH"] ?? "",
): PluginFile[] {
  return [
    ...pluginsIn(own, "coldstart").map((plugin) => ({ ...plugin, release: releaseTag() })),
    ...folders.flatMap(pluginsOfPackages),
    ...extra
      .split(path.delimiter)
      .filter((entry) => entry !== "")
      .flatMap((entry) =>
        fs.statSync(entry, { throwIfNoEntry: false })?.isDirectory()
          ? pluginsIn(path.resolve(entry), "COLDSTART_BACKEND_PATH")
          : [pluginAt(path.resolve(entry), "COLDSTART_BACKEND_PATH")],
      ),
  ];
}

function pluginsOfPackages(folder: string): PluginFile[] {
  const scope = path.join(folder, "@node-llama-cpp");
  return list(scope)
    .filter((name) => name.startsWith(`${packages}-${process.arch}`))
    .sort() // cuda before cuda-ext before vulkan
    .flatMap((name) => {
      const bins = path.join(scope, name, "bins");
      const folders = list(bins).map((bin) => path.join(bins, bin));
      // cuda-ext, for older drivers, has its plugin in a folder more, and says its release only by its version.
      const found = [...folders, ...folders.map((folder) => path.join(folder, "fallback"))].flatMap((folder) =>
        pluginsIn(folder, `@node-llama-cpp/${name}`),
      );
      if (found.every(({ release }) => release !== undefined)) return found;
      const { version } = readJson(path.join(scope, name, "package.json")) as { version?: unknown };
      const pinned = version === pinnedVersion() ? releaseTag() : undefined;
      return found.map((plugin) => ({ ...plugin, release: plugin.release ?? pinned }));
    });
}

/** Of the packages `@node-llama-cpp/…`, the version with plugins of the release that this is built from. */
export function pinnedVersion(): string {
  const file = fileURLToPath(new URL("../package.json", import.meta.url));
  return (readJson(file) as { "llama.cpp": { version: string } })["llama.cpp"].version;
}

function pluginsIn(folder: string, source: string): PluginFile[] {
  return list(folder)
    .filter((file) => pluginKind(file) !== undefined)
    .sort()
    .map((file) => pluginAt(path.join(folder, file), source));
}

function pluginAt(file: string, source: string): PluginFile {
  return {
    kind: pluginKind(path.basename(file)) ?? path.basename(file),
    path: file,
    source,
    release: releaseOf(path.dirname(file)),
  };
}

/** As llama.cpp's repository names it: `"v0.5.0"`. */
function releaseTag(): string {
  return `v${native().versions().llamaCpp}`;
}

/** What a build says of itself: node-llama-cpp's `_nlcBuildMetadata.json`, or `coldstart-backend.json` of one's own. */
function releaseOf(folder: string): string | undefined {
  const own = readJson(path.join(folder, "coldstart-backend.json")) as { llamaCpp?: unknown };
  const peer = readJson(path.join(folder, "_nlcBuildMetadata.json")) as {
    buildOptions?: { llamaCpp?: { release?: unknown } };
  };
  const release = own.llamaCpp ?? peer.buildOptions?.llamaCpp?.release;
  return typeof release === "string" ? release : undefined;
}

function readJson(file: string): object {
  try {
    const value: unknown = JSON.parse(fs.readFileSync(file, "utf8"));
    return typeof value === "object" && value !== null ? value : {};
  } catch {
    return {}; // Not there, or no JSON: it says nothing.
  }
}

function list(folder: string): string[] {
  try {
    return fs.readdirSync(folder);
  } catch {
    return []; // Most of the folders that are looked at do not exist.
  }
}

/** The node_modules folders that this package and the application see; in Electron, what was left out of the archive. */
function moduleFolders(): string[] {
  const starts = [import.meta.url, path.join(process.cwd(), "package.json"), process.argv[1]];
  const folders = starts.flatMap((start) => {
    if (start === undefined || !(start.startsWith("file:") || path.isAbsolute(start))) return [];
    return createRequire(start).resolve.paths("coldstart") ?? [];
  });
  return [...new Set(folders.map((folder) => folder.replace(/\bapp\.asar\b/, "app.asar.unpacked")))];
}

let loading: Promise<Backend[]> | undefined;

/**
 * Looks for backends and loads those that fit this release of llama.cpp. Once in a process; later calls give the same.
 *
 * A plugin of another release, or one that does not load, is refused with a reason and never used.
 */
export function listBackends(): Promise<Backend[]> {
  return (loading ??= loadAll());
}

async function loadAll(): Promise<Backend[]> {
  const backends = builtIn();
  for (const plugin of findPlugins()) backends.push(await load(plugin, backends));
  return backends;
}

/** Paths of the plugins in use, for another process that is to have the same devices. */
export async function loadedPlugins(): Promise<string[]> {
  const backends = await listBackends();
  return backends
    .filter(({ status, path: file }) => status === "loaded" && !ownPaths().includes(file))
    .map((one) => one.path);
}

/** Of what each process has without being told: the addon, and the CPU backend where builds have several to choose from. */
function ownPaths(): string[] {
  return [addonPath(), native().cpuVariant()].filter((file) => file !== undefined);
}

function builtIn(): Backend[] {
  const backends: Backend[] = [];
  for (const { backend: name, name: device } of native().listDevices()) {
    const known = backends.find((backend) => backend.name === name);
    if (known) known.devices.push(device);
    else
      backends.push({
        name,
        path: (name === "CPU" ? native().cpuVariant() : undefined) ?? addonPath(),
        source: "coldstart",
        status: "loaded",
        reason: undefined,
        devices: [device],
      });
  }
  return backends;
}

async function load({ kind, path: file, source, release }: PluginFile, before: Backend[]): Promise<Backend> {
  const refused = (reason: string): Backend => ({
    name: kind,
    path: file,
    source,
    status: "refused",
    reason,
    devices: [],
  });
  const ours = releaseTag();
  if (!fs.existsSync(file)) return refused("there is no such file");
  if (release === undefined) {
    return refused(
      `nothing says which llama.cpp it was built from; if it is ${ours}, put {"llamaCpp": "${ours}"} into coldstart-backend.json beside it`,
    );
  }
  if (release !== ours) {
    const fitting = source.startsWith("@") ? `; npm install ${source}@${pinnedVersion()}` : "";
    return refused(`it was built from llama.cpp ${release}, and coldstart from ${ours}${fitting}`);
  }
  const same = before.find(({ name, status }) => status === "loaded" && name.toLowerCase() === kind.toLowerCase());
  if (same) return refused(`${same.name} is loaded from ${same.path}`);
  try {
    const { name, devices } = await native().loadBackend(file);
    const reason = devices.length === 0 ? "it found no device" : undefined;
    return { name, path: file, source, status: "loaded", reason, devices };
  } catch (error) {
    if (!(error instanceof ColdstartError)) throw error;
    return refused(error.details["reason"] as string);
  }
}

/** Whether something here looks like a GPU that is not used, so that the CPU is no surprise only if it is told. */
export function isGpuLost(backends: Backend[], nvidiaDriver = hasNvidiaDriver()): boolean {
  return nvidiaDriver || backends.some(({ status }) => status === "refused");
}

/** What a user should know who expects a GPU and gets none. */
export function whyNoGpu(backends: Backend[], nvidiaDriver = hasNvidiaDriver()): string {
  const tried = backends.filter(({ status, reason }) => status === "refused" || reason !== undefined);
  const reasons = tried.map(({ name, source, reason }) => `${name} of ${source}: ${reason}`);
  if (reasons.length === 0 && nvidiaDriver) {
    reasons.push(
      `there is an NVIDIA driver and no backend for it: npm install @node-llama-cpp/${packages}-${process.arch}-cuda@${pinnedVersion()}`,
    );
  }
  return reasons.length === 0 ? "no backend for a GPU is installed" : reasons.join("; ");
}

/** Whether a GPU of NVIDIA's is in use, or should be. */
export function expectsNvidiaGpu(backends: Backend[]): boolean {
  return hasNvidiaDriver() || backends.some(({ name, devices }) => name === "CUDA" && devices.length > 0);
}

function hasNvidiaDriver(): boolean {
  return list("/proc/driver/nvidia/gpus").length > 0;
}
