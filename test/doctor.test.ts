// `coldstart doctor`: what it concludes from what it finds, and what it prints.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import type { Backend } from "../lib/backends.js";
import type { Check } from "../lib/cli/checks/check.js";
import { checkBackends, checkNvidiaDriver, checkNvidiaGpu, checkUnusedGpus } from "../lib/cli/checks/gpu.js";
import * as memory from "../lib/cli/checks/memory.js";
import { checkAddon, checkBuildTools, checkInstructions, checkNode } from "../lib/cli/checks/software.js";
import { checkContainer, checkDisk, checkOpenFiles, checkTemporaryFolder } from "../lib/cli/checks/system.js";
import { render } from "../lib/cli/doctor.js";
import type { Device } from "../lib/devices.js";
import { ColdstartError } from "../lib/errors.js";
import { readContainer } from "../lib/machine/container.js";
import type { CpuFacts } from "../lib/machine/cpu.js";
import type { MemoryFacts } from "../lib/machine/memory.js";
import { fileToMeasure, findModel } from "../lib/machine/model-files.js";
import { compiler, LibraryFolder } from "./support/c-library.js";
import { coldstartError } from "./support/errors.js";
import { recordedMachine } from "./support/recorded-machine.js";
import { root, TINY_STORIES } from "./support/models.js";

const GIB = 2 ** 30;
const HEALTHY: MemoryFacts = { total: 64 * GIB, available: 32 * GIB };
const MODEL = { files: ["model.gguf"], bytes: 8 * GIB };

function cpu(facts: Partial<CpuFacts>): CpuFacts {
  return { model: "x", architecture: "x64", logicalCores: 8, usableCores: 8, compiledFor: [], ...facts };
}

/** What is wrong has a remedy, and what is not has none. */
function status(check: Check): Check["status"] {
  const isWrong = check.status === "warn" || check.status === "fail";
  assert.equal(check.remedy !== undefined && check.remedy !== "", isWrong, JSON.stringify(check));
  assert.ok(check.found !== "" && !check.found.includes("\n") && !check.found.includes("undefined"), check.found);
  return check.status;
}

describe("doctor on Node.js and the addon", () => {
  it("fails on an old Node.js", () => {
    for (const version of ["20.19.0", "20.20.2", "22.0.0", "100.0.0"])
      assert.equal(status(checkNode(version, ">=20.19.0")), "ok", version);
    for (const version of ["18.20.0", "20.9.0", "20.18.9"])
      assert.equal(status(checkNode(version, ">=20.19.0")), "fail", version);
  });

  it("fails without the addon, with the error's own remedy", () => {
    const error = new ColdstartError("NATIVE_ADDON_MISSING", "It is not there.", { remedy: "Build it." });
    const check = checkAddon({ error });
    assert.deepEqual(check, { name: "Native addon", status: "fail", found: "It is not there.", remedy: "Build it." });
  });

  it("warns of builds for debugging", () => {
    const versions = { coldstart: "1", llamaCpp: "1", ggml: "1", systemInfo: "", compiler: "GNU 12" };
    assert.equal(status(checkAddon({ path: "/x.node", versions: { ...versions, buildType: "Release" } })), "ok");
    assert.equal(status(checkAddon({ path: "/x.node", versions: { ...versions, buildType: "Debug" } })), "warn");
  });

  it("warns of instructions that the build leaves unused, and fails on those that the processor lacks", () => {
    const sets = ["SSSE3", "AVX", "F16C", "FMA", "BMI2", "AVX2"];
    assert.equal(status(checkInstructions(cpu({ instructionSets: sets, compiledFor: sets }))), "ok");
    const unused = checkInstructions(cpu({ instructionSets: [...sets, "AVX-512", "AVX-512 FP16"], compiledFor: sets }));
    assert.equal(status(unused), "warn");
    assert.match(unused.found, /^the processor has AVX-512, and/, "F16 arithmetic is not used by any build");
    const lacking = checkInstructions(cpu({ instructionSets: sets, compiledFor: [...sets, "AMX INT8"] }));
    assert.equal(status(lacking), "fail");
    assert.match(lacking.found, /built for AMX INT8, which this processor lacks/);
    assert.equal(status(checkInstructions(cpu({ compiledFor: sets }))), "skip");
  });

  it("wants tools for building only where the addon is missing", () => {
    const tools = [{ name: "cmake", version: "3.25.1" }, { name: "c++", version: "12.2.0" }, { name: "git", version: "2" }]; // prettier-ignore
    assert.equal(status(checkBuildTools(tools, [], false)), "ok");
    assert.equal(status(checkBuildTools(tools, ["Install make."], false)), "fail");
    assert.equal(status(checkBuildTools(tools, ["Install make."], true)), "skip");
    assert.equal(status(checkBuildTools(tools.slice(0, 2), [], false)), "fail");
    assert.equal(status(checkBuildTools([{ name: "cmake", version: "3.5" }, ...tools.slice(1)], [], false)), "fail");
    assert.equal(status(checkBuildTools([], ["Install all."], false)), "fail");
  });
});

describe("doctor on GPUs", () => {
  const NVIDIA = { id: "0000:c1:00.0", vendor: "NVIDIA" } as const;
  const gpu = { index: 0, name: "NVIDIA H100", pciId: "0000:c1:00.0" };
  const device: Device = {
    ...{ name: "CUDA0", description: "NVIDIA H100", backend: "CUDA", type: "gpu", memoryTotal: 1, memoryFree: 1 },
  };

  it("skips the driver where there is no GPU, and fails where there is one", () => {
    const missing = { gpus: [], error: "libnvidia-ml.so.1: cannot open shared object file" };
    assert.equal(status(checkNvidiaDriver(missing, [{ ...NVIDIA, vendor: "AMD" }], false)), "skip");
    assert.match(checkNvidiaDriver(missing, [NVIDIA], false).remedy!, /Install NVIDIA's driver/);
    const inContainer = checkNvidiaDriver(missing, [NVIDIA], true);
    assert.equal(status(inContainer), "fail");
    assert.match(inContainer.remedy!, /--gpus all/);
  });

  it("knows what to do about a driver that does not answer", () => {
    const broken = (error: string) => checkNvidiaDriver({ library: "libnvidia-ml.so.1", error, gpus: [] }, [], false);
    assert.equal(status(broken("Driver/library version mismatch")), "fail");
    assert.match(broken("Driver/library version mismatch").remedy!, /Restart/);
    assert.match(broken("Driver Not Loaded").remedy!, /modprobe nvidia/);
    assert.match(broken("Unknown Error").remedy!, /nvidia-smi/);
    const found = checkNvidiaDriver({ version: "580.95.05", cudaVersion: "13.0", gpus: [gpu] }, [NVIDIA], false);
    assert.deepEqual([status(found), found.found], ["ok", "580.95.05, CUDA up to 13.0, 1 GPU"]);
  });

  it("looks at each GPU's health", () => {
    const memoryOf = (used: number) => ({ total: 80 * GIB, free: (80 - used) * GIB, used: used * GIB });
    assert.equal(status(checkNvidiaGpu({ ...gpu, throttleReasons: ["gpuIdle", "swPowerCap"], temperature: 31 })), "ok");
    assert.equal(status(checkNvidiaGpu({ ...gpu, eccErrors: { corrected: 9, uncorrected: 0 } })), "ok");
    assert.equal(status(checkNvidiaGpu({ ...gpu, eccErrors: { corrected: 0, uncorrected: 1 } })), "fail");
    assert.equal(status(checkNvidiaGpu({ ...gpu, throttleReasons: ["hwThermalSlowdown"] })), "warn");
    assert.equal(status(checkNvidiaGpu({ ...gpu, memory: memoryOf(1) })), "ok");
    const full = checkNvidiaGpu({ ...gpu, memory: memoryOf(79), processes: [{ pid: 42, memory: 78 * GIB }] });
    assert.equal(status(full), "warn");
    assert.match(full.found, /79\.0 GiB in use: processes 42 \(78\.0 GiB\)/);
    assert.equal(status(checkNvidiaGpu({ index: 1, error: "GPU is lost" })), "fail");
  });

  it("says which backends were refused, and why", () => {
    const backend = (name: string, reason?: string, refused = reason !== undefined): Backend => ({
      ...{ name, path: `/x/libggml-${name}.so`, source: "x", devices: [], reason },
      status: refused ? "refused" : "loaded",
    });
    assert.equal(status(checkBackends([backend("CPU"), backend("Vulkan")], true)), "ok");
    const copy = [backend("CPU"), backend("CUDA"), backend("cuda", "CUDA is loaded from elsewhere")];
    assert.equal(status(checkBackends(copy, true)), "ok");
    const older = checkBackends([backend("CPU"), backend("cuda", "it was built from llama.cpp b1")], false);
    assert.equal(status(older), "warn");
    assert.equal(older.found, "CPU; cuda (/x/libggml-cuda.so): it was built from llama.cpp b1");
    const idle = [backend("CPU"), backend("CUDA", "it found no device", false)];
    assert.equal(status(checkBackends(idle, true)), "warn");
    assert.equal(status(checkBackends(idle, false)), "ok");
  });

  it("finds GPUs that no backend uses", () => {
    const none = { gpus: [], error: "none" };
    assert.equal(status(checkUnusedGpus([], none, [])), "skip");
    assert.equal(status(checkUnusedGpus([], none, [NVIDIA])), "warn");
    assert.equal(status(checkUnusedGpus([], { gpus: [gpu] }, [])), "warn");
    assert.equal(status(checkUnusedGpus([{ ...device, pciId: "0000:c1:00.0" }], { gpus: [gpu] }, [NVIDIA])), "ok");
    assert.equal(status(checkUnusedGpus([device], { gpus: [gpu] }, [NVIDIA])), "ok", "it does not say which it uses");
    const second = { ...NVIDIA, id: "0000:c2:00.0" };
    const check = checkUnusedGpus([{ ...device, pciId: "0000:c1:00.0" }], { gpus: [gpu] }, [NVIDIA, second]);
    assert.equal(status(check), "warn");
    assert.match(check.found, /NVIDIA 0000:c2:00\.0$/);
  });
});

describe("doctor on memory", () => {
  it("compares a model with what is available, limits of a container included", () => {
    assert.equal(status(memory.checkMemory(HEALTHY, {}, MODEL)), "ok");
    assert.equal(status(memory.checkMemory(HEALTHY, { memoryLimit: 4 * GIB, memoryUsed: 0 }, MODEL)), "warn");
    assert.equal(status(memory.checkMemory({ ...HEALTHY, available: GIB / 2 }, {})), "warn");
  });

  it("sees the limits of a container", () => {
    const container = readContainer(
      recordedMachine({
        "/.dockerenv": "",
        "/proc/self/cgroup": "0::/\n",
        "/proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
        "/sys/fs/cgroup/memory.max": `${2 * GIB}\n`,
        "/sys/fs/cgroup/memory.current": `${1.9 * GIB}\n`,
        "/sys/fs/cgroup/cpu.max": "250000 100000\n",
      }),
      {},
    );
    assert.equal(checkContainer(container, false).found, "docker");
    const limit = memory.checkMemoryLimit(container, HEALTHY);
    assert.equal(status(limit), "warn");
    assert.match(limit.found, /^2\.0 GiB, of which 1\.9 GiB are in use \(control groups, version 2\)/);
    const quota = memory.checkCpuQuota(container, { usableCores: 16 });
    assert.deepEqual([status(quota), quota.found], ["ok", '2.5 of 16 CPUs; threads: "auto" keeps to it']);
  });

  it("has nothing to say about containers without limits", () => {
    assert.equal(status(memory.checkMemoryLimit({ cgroupVersion: 2 }, HEALTHY)), "ok");
    assert.equal(status(memory.checkMemoryLimit({ cgroupVersion: 2, memoryLimit: 100 * GIB }, HEALTHY)), "ok");
    assert.equal(status(memory.checkMemoryLimit({}, HEALTHY)), "skip");
    assert.equal(status(memory.checkCpuQuota({ cgroupVersion: 1, cpuQuota: 16 }, { usableCores: 8 })), "ok");
    assert.equal(status(memory.checkCpuQuota({}, { usableCores: 8 })), "skip");
    assert.equal(status(memory.checkCpuQuota({ cgroupVersion: 2, cpuQuota: 0.5 }, { usableCores: 8 })), "warn");
  });

  it("says what the bandwidth allows", () => {
    const check = memory.checkMemoryBandwidth({ memoryBandwidth: 80e9 }, MODEL);
    assert.equal(status(check), "ok");
    assert.match(check.found, /^80\.0 GB\/s: a dense model of 8\.0 GiB decodes at most 9\.3 tokens\/s/);
    const caches = [{ level: 3, type: "unified", size: 32 * 2 ** 20, sharedBy: 8 } as const];
    const small = memory.checkMemoryBandwidth({ memoryBandwidth: 80e9, caches }, { files: [], bytes: 2 ** 20 });
    assert.match(
      small.found,
      /a dense model of 4 GB decodes at most 20 tokens\/s/,
      "a small one is not read from memory",
    );
    assert.equal(status(memory.checkMemoryBandwidth({ memoryBandwidth: 4e9 })), "warn");
    assert.equal(status(memory.checkMemoryBandwidth({})), "skip");
  });

  it("looks at how the kernel gives memory", () => {
    const facts = (more: Partial<MemoryFacts>): MemoryFacts => ({ ...HEALTHY, ...more });
    for (const [check, expected] of [
      [memory.checkHugePages(facts({ transparentHugePages: "always" })), "ok"],
      [memory.checkHugePages(facts({ transparentHugePages: "madvise" })), "ok"],
      [memory.checkHugePages(facts({ transparentHugePages: "never" })), "warn"],
      [memory.checkHugePages(HEALTHY), "skip"],
      [memory.checkLockLimit(facts({ lockLimit: Infinity }), MODEL), "ok"],
      [memory.checkLockLimit(facts({ lockLimit: 8 * 2 ** 20 })), "ok"],
      [memory.checkLockLimit(facts({ lockLimit: 8 * 2 ** 20 }), MODEL), "warn"],
      [memory.checkLockLimit(HEALTHY), "skip"],
      [memory.checkOvercommit(facts({ overcommit: "heuristic" })), "ok"],
      [memory.checkOvercommit(facts({ overcommit: "strict" })), "warn"],
      [memory.checkOvercommit(HEALTHY), "skip"],
      [memory.checkSwap(facts({ swapTotal: 0, swapFree: 0 })), "ok"],
      [memory.checkSwap(facts({ swapTotal: 16 * GIB, swapFree: 15 * GIB })), "ok"],
      [memory.checkSwap(facts({ swapTotal: 16 * GIB, swapFree: GIB })), "warn"],
      [memory.checkSwap(HEALTHY), "skip"],
      [memory.checkNuma({ numaNodes: 1 }), "ok"],
      [memory.checkNuma({ numaNodes: 4, sockets: 2 }), "warn"],
      [memory.checkNuma({}), "skip"],
    ] as const)
      assert.equal(status(check), expected, JSON.stringify(check));
  });
});

describe("doctor on the system", () => {
  it("wants 1 GB/s of the disk", () => {
    assert.equal(status(checkDisk({ location: "/x", bandwidth: 1e9 })), "ok");
    assert.equal(status(checkDisk({ location: "/x", bandwidth: 0.99e9 })), "warn");
    assert.equal(status(checkDisk({ reason: "not measured" })), "skip");
  });

  it("wants room for temporary files, and files that can be opened", () => {
    assert.equal(status(checkTemporaryFolder("/tmp", 2 * GIB)), "ok");
    assert.equal(status(checkTemporaryFolder("/tmp", GIB / 2)), "warn");
    assert.equal(status(checkTemporaryFolder("/tmp", new Error("EROFS: read-only file system"))), "fail");
    assert.equal(status(checkOpenFiles({ soft: Infinity, hard: Infinity })), "ok");
    assert.equal(status(checkOpenFiles({ soft: 256, hard: 1024 })), "warn");
    assert.equal(status(checkOpenFiles(undefined)), "skip");
  });

  it("finds the files of a model", () => {
    const folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
    const write = (name: string, bytes: number) => {
      writeFileSync(path.join(folder, name), "");
      truncateSync(path.join(folder, name), bytes);
    };
    write("big-00001-of-00002.gguf", 10);
    write("big-00002-of-00002.gguf", 20);
    write("big-00001-of-00003.gguf", 40);
    write("other.gguf", 80);
    write("notes.txt", 160);
    symlinkSync("nowhere", path.join(folder, "gone.gguf"));
    mkdirSync(path.join(folder, "folder.gguf"));
    const bytes = (name: string) => findModel(path.join(folder, name)).bytes;
    assert.equal(bytes("big-00001-of-00002.gguf"), 30, "both parts");
    assert.equal(bytes("other.gguf"), 80);
    assert.equal(bytes("notes.txt"), 160, "what is named is taken as it is");
    assert.equal(bytes("."), 80, "the largest model");
    write("big-00002-of-00002.gguf", 90);
    assert.equal(bytes("."), 100, "the largest model, which has two parts");
    assert.equal(fileToMeasure(folder), folder, "all are too small");
    write("large.safetensors", 100 * 2 ** 20);
    write("small.safetensors", 1);
    assert.equal(bytes("."), 100 * 2 ** 20 + 1, "all files of a model of safetensors");
    assert.equal(fileToMeasure(folder), path.join(folder, "large.safetensors"));
    assert.equal(fileToMeasure(path.join(folder, "other.gguf")), path.join(folder, "other.gguf"));
    for (const name of ["missing.gguf", "folder.gguf"])
      assert.throws(() => findModel(path.join(folder, name)), coldstartError("MODEL_NOT_FOUND"));
    rmSync(folder, { recursive: true });
  });
});

describe("doctor's report", () => {
  const checks: Check[] = [
    { name: "A", status: "ok", found: "fine" },
    { name: "Long name", status: "warn", found: "slow", remedy: "Make it faster." },
    { name: "B", status: "fail", found: "broken", remedy: "Repair it." },
    { name: "C", status: "skip", found: "not here" },
  ];

  it("is aligned, with numbered remedies", () => {
    assert.equal(
      render(checks, false),
      "✓  A          fine\n!  Long name  slow\n✗  B          broken\n-  C          not here\n\n" +
        "Remedies\n1. Long name: Make it faster.\n2. B: Repair it.",
    );
    assert.match(render(checks.slice(0, 1), false), /\n\nNothing to do\.$/);
  });

  it("has colours only where they are wanted, and the same text", () => {
    // eslint-disable-next-line no-control-regex
    assert.equal(render(checks, true).replace(/\x1b\[\d+m/g, ""), render(checks, false));
  });
});

describe("the command doctor", () => {
  function doctor(
    args: string[],
    environment: NodeJS.ProcessEnv = {},
  ): Promise<{ code: number; out: string; err: string }> {
    const command = [path.join(root, "dist/cli/main.js"), "doctor", "--no-measure", ...args];
    return new Promise((resolve) => {
      execFile(process.execPath, command, { env: { ...process.env, ...environment } }, (error, out, err) => {
        resolve({ code: typeof error?.code === "number" ? error.code : 0, out, err });
      });
    });
  }
  interface Json {
    ok: boolean;
    checks: Check[];
    machine?: { cpu: CpuFacts; devices: Device[] };
  }

  it("prints JSON, and its exit code says whether something failed", async () => {
    const { code, out } = await doctor(["--json", "--model", TINY_STORIES]);
    const { ok, checks, machine } = JSON.parse(out) as Json;
    assert.equal(ok, !checks.some((check) => check.status === "fail"));
    assert.equal(code, ok ? 0 : 1);
    for (const check of checks) status(check);
    assert.equal(new Set(checks.map(({ name }) => name)).size, checks.length, "names are unique");
    for (const name of ["Node.js", "Native addon", "CPU instructions", "Memory", "Disk bandwidth"])
      assert.ok(checks.some((check) => check.name === name), name); // prettier-ignore
    assert.ok(machine!.devices.some(({ cpu: facts }) => facts?.model === machine!.cpu.model));
  });

  it("prints a list without colours into a pipe", async () => {
    const { out } = await doctor([]);
    assert.match(out, /^✓ {2}Node\.js +\d+\.\d+\.\d+\n✓ {2}Native addon /);
    assert.ok(!out.includes("\x1b"));
  });

  it("exits with 1 when the addon is missing, and still looks at the rest", async () => {
    const { code, out } = await doctor(["--json"], { COLDSTART_ADDON: path.join(root, "no-such-addon.node") });
    const { ok, checks, machine } = JSON.parse(out) as Json;
    assert.deepEqual([code, ok, machine], [1, false, undefined]);
    assert.deepEqual(checks.filter((check) => check.status === "fail").map(({ name }) => name), ["Native addon"]); // prettier-ignore
    assert.ok(checks.some(({ name }) => name === "Memory"));
  });

  it("exits with 1 when NVIDIA's driver does not work, and says what to do", async function () {
    if (compiler === undefined) this.skip();
    const folder = new LibraryFolder();
    const source = path.join(root, "test", "fixtures", "nvml.c");
    const mismatch = await doctor([], { COLDSTART_NVML: folder.compile(source, "mismatch", ["INIT_FAILS=18"]) });
    assert.equal(mismatch.code, 1);
    assert.match(mismatch.out, /✗ {2}NVIDIA driver .*Driver\/library version mismatch/);
    assert.match(mismatch.out, /Remedies\n1\. NVIDIA driver: The driver was updated/);
    const fine = await doctor([], { COLDSTART_NVML: folder.compile(source, "fine") });
    assert.match(fine.out, /✓ {2}NVIDIA driver +580\.95\.05, CUDA up to 13\.1, 2 GPUs/);
    assert.match(fine.out, /! {2}NVIDIA GPU 0 .* 31 °C, 68 of 700 W, it is too hot/);
    folder.remove();
  });

  it("exits with 1 when there is no such model", async () => {
    const { code, out, err } = await doctor(["--model", "nothing.gguf"]);
    assert.deepEqual([code, out], [1, ""]);
    assert.match(err, /There is no file at nothing\.gguf.*\[MODEL_NOT_FOUND\]/);
  });
});
