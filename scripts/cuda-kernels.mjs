// Compiles every .cu of native/cuda for the architectures that we have kernels for, with warnings as errors, and compares what the
// assembler says of each kernel (registers, stack, spills, static shared memory) with the recorded table: a new spill or a new stack
// frame is a failure.
//
//   node scripts/cuda-kernels.mjs [--arch 90a] [--write] [--file PART …]
//
//   --arch    only this architecture (repeatable); all of them otherwise
//   --write   records what it finds, for the architectures that were compiled
//   --file    only files whose name contains this (repeatable)
//
// The table: kernel, architecture, [registers, bytes of stack, bytes of spills, bytes of static shared memory].

import { execFileSync, spawn, spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { findNvcc } from "./cuda-toolkit.mjs";

export const ARCHITECTURES = ["75", "80", "86", "89", "90a", "100", "120"];

const root = path.resolve(import.meta.dirname, "..");
const source = path.join(root, "native", "cuda");
const table = path.join(source, "resources.json");

/** Ours, without the programs that test on a GPU. */
export function kernelFiles() {
  return fs
    .readdirSync(source, { recursive: true })
    .filter((file) => file.endsWith(".cu") && !file.startsWith("testing"))
    .sort();
}

/**
 * What is wrong, in sentences, and what else is worth saying; `resources` by kernel.
 * @param {string} arch
 * @param {{ files?: string[], nvcc?: string }} [options]
 */
export async function compileKernels(arch, { files = kernelFiles(), nvcc = findNvcc() } = {}) {
  if (nvcc === undefined) throw new Error(NO_NVCC);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "cuda-kernels-"));
  const ccache = spawnSync("ccache", ["--version"]).status === 0 ? ["ccache"] : [];
  const failures = [];
  const report = [];
  const queue = [...files];
  const worker = async () => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
      const object = path.join(folder, `${file.replaceAll(path.sep, "_")}.o`);
      // As native/cuda/CMakeLists.txt has it compiled. One architecture at a time: of several, ccache would look at the source as the
      // first one sees it, and take a change for another one's code for none.
      const [command, ...args] = [
        ...[...ccache, nvcc, "-std=c++17", "-O3", "-DNDEBUG"],
        `--generate-code=arch=compute_${arch},code=sm_${arch}`,
        ...["-Xptxas", "-v", "-Werror", "all-warnings", "-Xcompiler", "-fPIC,-Wall,-Werror"],
        ...["-I", path.join(root, "native"), "-I", path.join(source, "cublas")],
        ...["-c", path.join(source, file), "-o", object],
      ];
      const { status, text } = await output(command, args);
      if (status !== 0) failures.push(`${file} for sm_${arch}:\n${text.trim()}`);
      else report.push(text);
    }
  };
  await Promise.all(Array.from({ length: jobs() }, worker));
  fs.rmSync(folder, { recursive: true, force: true });
  return { failures, resources: parseReport(report.join("\n")) };
}

/** What is worse than the table, and what the table does not have. */
export function compare(arch, resources, recorded = readTable()) {
  const failures = [];
  const notes = [];
  let unrecorded = 0;
  for (const [kernel, now] of Object.entries(resources)) {
    const before = recorded[kernel]?.[`sm_${arch}`];
    const [, stack, spills] = now;
    if (stack > (before?.[1] ?? 0))
      failures.push(`${kernel} on sm_${arch}: ${stack} bytes of stack, ${before?.[1] ?? 0} before`);
    if (spills > (before?.[2] ?? 0))
      failures.push(`${kernel} on sm_${arch}: ${spills} bytes of spills, ${before?.[2] ?? 0} before`);
    if (before === undefined) unrecorded++;
    else if (now[0] > before[0]) notes.push(`${kernel} on sm_${arch}: ${now[0]} registers, ${before[0]} before`);
  }
  if (unrecorded > 0) notes.push(`sm_${arch}: ${unrecorded} kernels are not in the table; --write records them.`);
  return { failures, notes };
}

export function readTable() {
  return fs.existsSync(table) ? JSON.parse(fs.readFileSync(table, "utf8")) : {};
}

export const NO_NVCC =
  "There is no nvcc: put the CUDA 13 toolkit's bin folder into PATH, set CUDA_PATH, or run node scripts/cuda-toolkit.mjs.";

/** `ptxas -v`, by kernel. */
export function parseReport(text) {
  const resources = {};
  let kernel;
  for (const line of text.split("\n")) {
    const compiling = /Compiling entry function '([^']+)'/.exec(line);
    if (compiling !== null) kernel = compiling[1];
    if (kernel === undefined) continue;
    const entry = (resources[kernel] ??= [0, 0, 0, 0]);
    const frame = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
    if (frame !== null) {
      entry[1] = Number(frame[1]);
      entry[2] = Number(frame[2]) + Number(frame[3]);
    }
    const used = /Used (\d+) registers/.exec(line);
    if (used !== null) {
      entry[0] = Number(used[1]);
      entry[3] = Number(/(\d+) bytes smem/.exec(line)?.[1] ?? 0);
      kernel = undefined;
    }
  }
  return readable(resources);
}

/** By names as C++ has them, without parameters and our namespace. */
function readable(resources) {
  const mangled = Object.keys(resources);
  if (mangled.length === 0) return {};
  const names = execFileSync("c++filt", { input: mangled.join("\n"), encoding: "utf8" }).split("\n");
  const short = (name) =>
    name
      .replace(/^void /, "")
      .replaceAll("coldstart::cuda::", "")
      .replaceAll("(anonymous namespace)::", "")
      .replace(/\([^()]*\)$/, "");
  return Object.fromEntries(
    mangled.map((one, i) => [short(names[i]), resources[one]]).sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}

function jobs() {
  return Number(process.env["COLDSTART_BUILD_JOBS"] ?? os.availableParallelism());
}

function output(command, args) {
  return new Promise((resolve, reject) => {
    // Paths relative to the checkout, so that another clone of it hits the same entries of ccache.
    const env = { ...process.env, CCACHE_BASEDIR: root, CCACHE_NOHASHDIR: "1" };
    const child = spawn(command, args, { cwd: root, env, stdio: ["ignore", "pipe", "pipe"] });
    let text = "";
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (part) => (text += part));
    child.on("error", reject);
    child.on("close", (status) => resolve({ status, text }));
  });
}

/** As Prettier would. */
function writeTable(kernels) {
  const architectures = (by) => ARCHITECTURES.filter((arch) => `sm_${arch}` in by);
  const entry = ([kernel, by]) =>
    `  ${JSON.stringify(kernel)}: {\n` +
    architectures(by)
      .map((arch) => `    "sm_${arch}": [${by[`sm_${arch}`].join(", ")}]`)
      .join(",\n") +
    "\n  }";
  const sorted = Object.entries(kernels).sort(([a], [b]) => (a < b ? -1 : 1));
  fs.writeFileSync(table, `{\n${sorted.map(entry).join(",\n")}\n}\n`);
}

async function main() {
  const { values: options } = parseArgs({
    options: {
      arch: { type: "string", multiple: true, default: ARCHITECTURES },
      write: { type: "boolean", default: false },
      file: { type: "string", multiple: true },
    },
  });
  const nvcc = findNvcc();
  if (nvcc === undefined) {
    console.error(NO_NVCC);
    return 1;
  }
  const files = kernelFiles().filter((file) => options.file?.some((part) => file.includes(part)) ?? true);
  const recorded = readTable();
  let failed = 0;
  for (const arch of options.arch) {
    const started = Date.now();
    const { failures, resources } = await compileKernels(arch, { files, nvcc });
    const compared = options.write ? { failures: [], notes: [] } : compare(arch, resources, recorded);
    for (const text of [...failures, ...compared.failures]) console.error(text);
    for (const text of compared.notes) console.log(text);
    failed += failures.length + compared.failures.length;
    const spilled = Object.values(resources).filter(([, stack, spills]) => stack + spills > 0).length;
    console.log(
      `sm_${arch}: ${Object.keys(resources).length} kernels, ${spilled} with a stack or spills, ` +
        `${((Date.now() - started) / 1000).toFixed(0)} s`,
    );
    if (!options.write) continue;
    if (options.file === undefined) {
      for (const by of Object.values(recorded)) delete by[`sm_${arch}`];
    }
    for (const [kernel, now] of Object.entries(resources)) (recorded[kernel] ??= {})[`sm_${arch}`] = now;
  }
  if (options.write) {
    writeTable(Object.fromEntries(Object.entries(recorded).filter(([, by]) => Object.keys(by).length > 0)));
  }
  return failed === 0 ? 0 : 1;
}

if (process.argv[1] === import.meta.filename) process.exitCode = await main();
