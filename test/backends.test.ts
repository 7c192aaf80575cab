import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { findPlugins, listBackends, pinnedVersion, pluginKind, isGpuLost, whyNoGpu } from "../lib/backends.js";
import { addonPath } from "../lib/native.js";
import { root } from "./support/models.js";
import { backendsWith } from "./support/plugins.js";

const linux = process.platform === "linux";
const { release } = (JSON.parse(readFileSync(`${root}/package.json`, "utf8")) as { "llama.cpp": { release: string } })[
  "llama.cpp"
];

let folder: string;
beforeEach(() => (folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-backends-"))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function place(file: string, content: string | Uint8Array): string {
  const full = path.join(folder, file);
  mkdirSync(path.dirname(full), { recursive: true });
  writeFileSync(full, content);
  return full;
}

describe("the search for backends", function () {
  before(function () {
    if (!linux) this.skip(); // The names below are those of Linux.
  });

  it("knows plugins by their names", () => {
    assert.equal(pluginKind("libggml-cuda.so"), "cuda");
    assert.equal(pluginKind("libggml-vulkan.so"), "vulkan");
    for (const other of ["libggml.so", "libggml-base.so", "libggml-cpu.so", "libggml-cpu-haswell.so", "libggml-rpc.so"])
      assert.equal(pluginKind(other), undefined, other);
    for (const other of ["libggml-cuda.dll", "libggml.vulkan.v0.5.0.so", "ggml-cuda.so", "README"])
      assert.equal(pluginKind(other), undefined, other);
  });

  it("prefers our own, then packages, then COLDSTART_BACKEND_PATH", () => {
    const own = path.dirname(place("own/libggml-cuda.so", ""));
    place("own/libggml-base.so", "");
    const scope = `node_modules/@node-llama-cpp/linux-${process.arch}`;
    const metadata = JSON.stringify({ buildOptions: { llamaCpp: { release: "v9.9.9" } } });
    for (const name of ["vulkan", "cuda"]) {
      place(`${scope}-${name}/bins/linux-${process.arch}-${name}/libggml-${name}.so`, "");
      place(`${scope}-${name}/bins/linux-${process.arch}-${name}/_nlcBuildMetadata.json`, metadata);
    }
    place(`${scope}-cuda-ext/bins/linux-${process.arch}-cuda/fallback/libggml-cuda.so`, "");
    const extensionOf = (version: string) => {
      place(`${scope}-cuda-ext/package.json`, JSON.stringify({ version }));
      return findPlugins(own, [path.join(folder, "node_modules")], "").find(({ source }) => source.endsWith("-ext"));
    };
    assert.equal(extensionOf("1.2.3")?.release, undefined);
    assert.equal(extensionOf(pinnedVersion())?.release, release);
    place("node_modules/@node-llama-cpp/win-x64-cuda/bins/win-x64-cuda/libggml-cuda.so", "");
    const one = place("elsewhere/libggml-hip.so", "");
    const many = path.dirname(place("folder/libggml-sycl.so", ""));
    place("folder/coldstart-backend.json", JSON.stringify({ llamaCpp: release }));
    const found = findPlugins(own, [path.join(folder, "node_modules")], [one, many].join(path.delimiter));
    assert.deepEqual(
      found.map((plugin) => [plugin.kind, plugin.source, plugin.release]),
      [
        ["cuda", "coldstart", release],
        ["cuda", `@node-llama-cpp/linux-${process.arch}-cuda`, "v9.9.9"],
        ["cuda", `@node-llama-cpp/linux-${process.arch}-cuda-ext`, release],
        ["vulkan", `@node-llama-cpp/linux-${process.arch}-vulkan`, "v9.9.9"],
        ["hip", "COLDSTART_BACKEND_PATH", undefined],
        ["sycl", "COLDSTART_BACKEND_PATH", release],
      ],
    );
  });
});

describe("a GPU that is not used", () => {
  const backend = { path: "", source: "x", devices: [], reason: "why" };
  it("is told when a backend was refused, or NVIDIA's driver has no backend", () => {
    const refused = [{ ...backend, name: "cuda", status: "refused" as const }];
    const loaded = [{ ...backend, name: "CPU", source: "coldstart", status: "loaded" as const, reason: undefined }];
    assert.deepEqual(
      [isGpuLost(refused, false), isGpuLost(loaded, true), isGpuLost(loaded, false)],
      [true, true, false],
    );
    assert.match(whyNoGpu(refused, false), /cuda of x: why/);
    assert.match(whyNoGpu(loaded, true), /NVIDIA driver and no backend for it: npm install @node-llama-cpp/);
    assert.match(whyNoGpu(loaded, false), /no backend for a GPU is installed/);
  });
});

describe("listBackends()", () => {
  it("has the built-in one", async () => {
    const cpu = (await listBackends()).find(({ name }) => name === "CPU");
    assert.deepEqual(cpu, {
      name: "CPU",
      path: addonPath(),
      source: "coldstart",
      status: "loaded",
      reason: undefined,
      devices: ["CPU"],
    });
  });

  /** The plugin as a process sees it that has the folder on its path. */
  async function refusalOf(file: string): Promise<string> {
    const backends = await backendsWith({ COLDSTART_BACKEND_PATH: file });
    const found = backends.find(({ path: at }) => at === file);
    assert.equal(found?.status, "refused");
    assert.deepEqual(backends.find(({ name }) => name === "CPU")?.devices, ["CPU"], "the rest works");
    return found.reason!;
  }

  function placeOfThisRelease(content: string | Uint8Array): string {
    place("coldstart-backend.json", JSON.stringify({ llamaCpp: release }));
    return place("libggml-odd.so", content);
  }

  /** A library from a line of C. */
  function compile(file: string, source: string, ...flags: string[]): string {
    const full = path.join(folder, file);
    const options = { input: source, encoding: "utf8" as const };
    const { status, stderr } = spawnSync(
      "cc",
      ["-shared", "-fPIC", "-xc", "-", "-xnone", "-o", full, ...flags],
      options,
    );
    assert.equal(status, 0, stderr);
    return full;
  }

  it("refuses what is of another release, or does not say", async () => {
    const file = place("libggml-odd.so", "");
    assert.match(await refusalOf(file), /nothing says which llama.cpp/);
    place("_nlcBuildMetadata.json", JSON.stringify({ buildOptions: { llamaCpp: { release: "v0.4.0" } } }));
    assert.match(await refusalOf(file), new RegExp(`from llama.cpp v0.4.0, and coldstart from ${release}`));
    place("_nlcBuildMetadata.json", "not JSON");
    assert.match(await refusalOf(file), /nothing says which llama.cpp/);
  });

  it("refuses what is not there, is no library, is cut off, or is no backend", async function () {
    if (!linux) this.skip();
    assert.match(await refusalOf(path.join(folder, "libggml-absent.so")), /no such file/);
    assert.match(await refusalOf(placeOfThisRelease("text")), /no library, or is cut off/);
    const library = path.join(path.dirname(addonPath()), "libggml-base.so");
    const cut = placeOfThisRelease("");
    copyFileSync(library, cut);
    truncateSync(cut, 100_000);
    assert.match(await refusalOf(cut), /no library, or is cut off/);
    place("coldstart-backend.json", JSON.stringify({ llamaCpp: release }));
    assert.match(await refusalOf(compile("libggml-odd.so", "int nothing;")), /no ggml_backend_init/);
  });

  it("refuses what lacks a library, naming it", async function () {
    if (!linux) this.skip();
    placeOfThisRelease("");
    const needed = compile(
      "libcudart-of-nobody.so.13",
      "int needed(void) { return 1; }",
      "-Wl,-soname,libcudart-of-nobody.so.13",
    );
    const plugin = compile(
      "libggml-odd.so",
      "int needed(void); void *ggml_backend_init(void) { return (void*)(long)needed(); }",
      needed,
    );
    rmSync(needed);
    assert.match(await refusalOf(plugin), /libcudart-of-nobody\.so\.13: cannot open/);
  });

  it("refuses what would bring a second ggml", async function () {
    if (!linux) this.skip();
    placeOfThisRelease("");
    const base = compile("libggml-base.so.0", "int ggml_other(void) { return 1; }", "-Wl,-soname,libggml-base.so.0");
    const plugin = compile(
      "libggml-odd.so",
      "int ggml_other(void); void *ggml_backend_init(void) { return (void*)(long)ggml_other(); }",
      base,
      "-Wl,-rpath,$ORIGIN",
    );
    assert.match(await refusalOf(plugin), /second ggml/);
  });

  it("refuses a backend that does not support this machine, or speaks another version of the interface", async function () {
    if (!linux) this.skip();
    placeOfThisRelease("");
    const unsupported = "int ggml_backend_score(void) { return 0; } void *ggml_backend_init(void) { return 0; }";
    assert.match(await refusalOf(compile("libggml-odd.so", unsupported)), /does not support this machine/);
    const old = "static int version[64] = {1}; void *ggml_backend_init(void) { return version; }";
    assert.match(await refusalOf(compile("libggml-odd.so", old)), /incompatible API version/);
  });
});
