// Processors as Linux describes them on several machines.

import assert from "node:assert/strict";
import fc from "fast-check";
import { parseCpuInfo, readCpu, type NodeCpu } from "../../lib/machine/cpu.js";
import { bytesOfSize, countOfList, selected } from "../../lib/machine/files.js";
import { namesFromFeatures, namesFromFlags } from "../../lib/machine/instruction-sets.js";
import { recordedMachine } from "../support/recorded-machine.js";

const X86_BASE =
  "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ht syscall nx";

/** Blocks of an x86 kernel's /proc/cpuinfo. */
function x86(model: string, flags: string, cores: [socket: number, core: number][]): string {
  return cores
    .map(([socket, core], processor) =>
      [
        `processor\t: ${processor}`,
        "vendor_id\t: GenuineIntel",
        `model name\t: ${model}`,
        "cpu MHz\t\t: 2599.998",
        "cache size\t: 491520 KB",
        `physical id\t: ${socket}`,
        `core id\t\t: ${core}`,
        "power management:",
        `flags\t\t: ${X86_BASE} ${flags}`,
        "bugs\t\t: spectre_v1",
      ].join("\n"),
    )
    .join("\n\n")
    .concat("\n\n");
}

/** Blocks of an ARM kernel's, with the parts of its cores. */
function arm(implementer: string, parts: string[], features: string): string {
  return parts
    .map((part, processor) =>
      [
        `processor\t: ${processor}`,
        "BogoMIPS\t: 243.75",
        `Features\t: ${features}`,
        `CPU implementer\t: ${implementer}`,
        "CPU architecture: 8",
        "CPU variant\t: 0x3",
        `CPU part\t: ${part}`,
        "CPU revision\t: 1",
      ].join("\n"),
    )
    .join("\n\n")
    .concat("\n\n");
}

const SAPPHIRE_RAPIDS =
  "ssse3 fma avx f16c avx2 bmi2 avx512f avx512dq avx512cd avx512bw avx512vl avx_vnni avx512_bf16 avx512vbmi avx512_vnni amx_bf16 avx512_fp16 amx_tile amx_int8";
const NEOVERSE_N1 =
  "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs";

function on(platform: NodeJS.Platform, architecture: string, models: string[] = []): NodeCpu {
  return { platform, architecture, models, usableCores: models.length };
}

describe("/proc/cpuinfo", () => {
  it("of two sockets with hyperthreads: cores are counted once", () => {
    const threads: [number, number][] = [0, 1, 0, 1].flatMap((socket) =>
      [0, 1, 2].map((core): [number, number] => [socket, core]),
    );
    const info = parseCpuInfo(x86("Intel(R) Xeon(R) Platinum 8480+", SAPPHIRE_RAPIDS, threads));
    assert.equal(info.model, "Intel(R) Xeon(R) Platinum 8480+");
    assert.deepEqual([info.logicalCores, info.physicalCores, info.sockets], [12, 6, 2]);
    assert.deepEqual(namesFromFlags("x64", info.flags), [
      ...["SSSE3", "AVX", "F16C", "FMA", "BMI2", "AVX2", "AVX-VNNI", "AVX-512", "AVX-512 VBMI", "AVX-512 VNNI"],
      ...["AVX-512 BF16", "AVX-512 FP16", "AMX INT8", "AMX BF16"],
    ]);
  });

  it("of an old x86: only what it has", () => {
    const info = parseCpuInfo(x86("Intel(R) Core(TM) i7-2600", "ssse3 sse4_1 sse4_2 avx", [[0, 0]]));
    assert.deepEqual(namesFromFlags("x64", info.flags), ["SSSE3", "AVX"]);
  });

  it("of AVX-512 in part: not AVX-512", () => {
    const info = parseCpuInfo(x86("Intel(R) Xeon Phi(TM)", "avx avx2 avx512f avx512cd avx512er", [[0, 0]]));
    assert.deepEqual(namesFromFlags("x64", info.flags), ["AVX", "AVX2"]);
  });

  it("of an ARM server: the model from its part number", () => {
    const info = parseCpuInfo(arm("0x41", ["0xd0c", "0xd0c"], NEOVERSE_N1));
    assert.equal(info.model, "Neoverse-N1");
    assert.deepEqual([info.logicalCores, info.physicalCores, info.sockets], [2, undefined, undefined]);
    assert.deepEqual(namesFromFlags("arm64", info.flags), ["NEON", "FP16", "DotProd"]);
  });

  it("of big and little cores: both kinds, and what both can", () => {
    const text =
      arm("0x41", ["0xd05", "0xd05", "0xd0b"], `${NEOVERSE_N1} i8mm`).replace(" i8mm\n", "\n") +
      "Hardware\t: Rockchip RK3588\nRevision\t: 0000\n";
    const info = parseCpuInfo(text);
    assert.equal(info.model, "2 x Cortex-A55 + 1 x Cortex-A76");
    assert.equal(info.logicalCores, 3);
    assert.ok(!info.flags.has("i8mm") && info.flags.has("asimddp"));
  });

  it("of ARM parts that are not known: no model", () => {
    assert.equal(parseCpuInfo(arm("0x99", ["0x001"], NEOVERSE_N1)).model, undefined);
  });

  it("of RISC-V: extensions by letter", () => {
    const text =
      "processor\t: 0\nhart\t\t: 0\nisa\t\t: rv64imafdcv_zicbom_zfh\nmmu\t\t: sv39\nuarch\t\t: spacemit,x60\n\n";
    const info = parseCpuInfo(text);
    assert.equal(info.model, "spacemit,x60");
    assert.deepEqual(namesFromFlags("riscv64", info.flags), ["RVV"]);
    assert.ok(info.flags.has("zfh"));
    assert.deepEqual(namesFromFlags("riscv64", parseCpuInfo(text.replace("cv_", "c_")).flags), []);
  });

  it("that is empty or of another form: nothing, and no error", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        assert.ok(parseCpuInfo(text).logicalCores >= 0);
      }),
    );
    assert.deepEqual(parseCpuInfo(""), { logicalCores: 0, flags: new Set() });
  });

  it("counts what was written, however cores and threads are numbered", () => {
    const machines = fc.record({
      sockets: fc.integer({ min: 1, max: 4 }),
      cores: fc.integer({ min: 1, max: 6 }),
      threads: fc.integer({ min: 1, max: 4 }),
    });
    fc.assert(
      fc.property(
        machines,
        fc.array(fc.nat(), { minLength: 96, maxLength: 96 }),
        ({ sockets, cores, threads }, order) => {
          const processors: [number, number][] = [];
          for (let socket = 0; socket < sockets; socket++)
            for (let core = 0; core < cores; core++)
              for (let thread = 0; thread < threads; thread++) processors.push([socket, core * 4]);
          const shuffled = processors.map((cpu, i) => ({ cpu, at: order[i]! })).sort((a, b) => a.at - b.at);
          const info = parseCpuInfo(x86("x", "avx", shuffled.map(({ cpu }) => cpu))); // prettier-ignore
          assert.deepEqual(
            [info.sockets, info.physicalCores, info.logicalCores],
            [sockets, sockets * cores, sockets * cores * threads],
          );
        },
      ),
    );
  });
});

describe("the processor", () => {
  it("is counted in /sys where /proc/cpuinfo has no cores", () => {
    const cpu = (number: number, siblings: string, socket: number) => ({
      [`/sys/devices/system/cpu/cpu${number}/topology/physical_package_id`]: `${socket}\n`,
      [`/sys/devices/system/cpu/cpu${number}/topology/core_id`]: `${Math.floor(number / 2)}\n`,
      [`/sys/devices/system/cpu/cpu${number}/topology/thread_siblings_list`]: `${siblings}\n`,
    });
    const files = recordedMachine({
      "/proc/cpuinfo": arm("0x41", ["0xd4f", "0xd4f", "0xd4f", "0xd4f"], `${NEOVERSE_N1} sve sve2 i8mm bf16`),
      ...cpu(0, "0-1", 0),
      ...cpu(1, "0-1", 0),
      ...cpu(2, "2-3", 1),
      ...cpu(3, "2-3", 1),
      "/sys/devices/system/cpu/cpufreq/boost": "1\n",
      "/sys/devices/system/node/has_cpu": "0-1\n",
    });
    const facts = readCpu(files, { NEON: "1", DOTPROD: "1" }, on("linux", "arm64", ["unknown", "", "", ""]));
    assert.deepEqual(facts, {
      model: "Neoverse-V2",
      architecture: "arm64",
      sockets: 2,
      physicalCores: 2,
      logicalCores: 4,
      usableCores: 4,
      numaNodes: 2,
      instructionSets: ["NEON", "FP16", "DotProd", "I8MM", "BF16", "SVE", "SVE2"],
      compiledFor: ["NEON", "DotProd"],
    });
  });

  it("has caches of its first core", () => {
    const cache = (index: number, level: number, type: string, size: string, shared: string) => ({
      [`/sys/devices/system/cpu/cpu0/cache/index${index}/level`]: `${level}\n`,
      [`/sys/devices/system/cpu/cpu0/cache/index${index}/type`]: `${type}\n`,
      [`/sys/devices/system/cpu/cpu0/cache/index${index}/size`]: `${size}\n`,
      [`/sys/devices/system/cpu/cpu0/cache/index${index}/shared_cpu_list`]: `${shared}\n`,
    });
    const files = recordedMachine({
      "/proc/cpuinfo": x86("AMD EPYC 9654 96-Core Processor", "avx avx2", [[0, 0]]),
      "/sys/devices/system/cpu/cpu0/cache/uevent": "",
      ...cache(0, 1, "Data", "32K", "0,96"),
      ...cache(3, 3, "Unified", "32M", "0-7,96-103"),
    });
    assert.deepEqual(readCpu(files, {}, on("linux", "x64")).caches, [
      { level: 1, type: "data", size: 32768, sharedBy: 2 },
      { level: 3, type: "unified", size: 33554432, sharedBy: 16 },
    ]);
  });

  it("is what Node.js says on other systems", () => {
    const facts = readCpu(recordedMachine({}), { NEON: "1" }, on("darwin", "arm64", ["Apple M3 Max", "Apple M3 Max"]));
    assert.deepEqual(facts, {
      ...{ model: "Apple M3 Max", architecture: "arm64", logicalCores: 2, usableCores: 2, compiledFor: ["NEON"] },
    });
  });

  it("is known by what Node.js says where /proc is not mounted", () => {
    const facts = readCpu(recordedMachine({}), {}, on("linux", "x64", ["AMD Ryzen 9 7950X"]));
    assert.deepEqual(facts, {
      ...{ model: "AMD Ryzen 9 7950X", architecture: "x64", logicalCores: 1, usableCores: 1, compiledFor: [] },
    });
  });

  it("is compiled for what ggml says and is not 0", () => {
    assert.deepEqual(namesFromFeatures("x64", { AVX2: "1", AVX512: "0", OPENMP: "1" }), ["AVX2"]);
    assert.deepEqual(namesFromFeatures("s390x", { VXE: "1" }), []);
  });
});

describe("values of /sys", () => {
  it("are counted, measured and selected", () => {
    assert.deepEqual(["0", "0-3", "0-3,8,10-11", ""].map(countOfList), [1, 4, 7, 0]);
    assert.deepEqual(["48K", "32M\n", "1G", "64", "", "K"].map(bytesOfSize), [
      49152,
      33554432,
      2 ** 30,
      64,
      undefined,
      undefined,
    ]);
    assert.equal(selected("always [madvise] never\n"), "madvise");
    assert.equal(selected(undefined), undefined);
  });
});
