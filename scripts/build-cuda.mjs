// Builds the CUDA backend (native/cuda) and puts it beside the addon, in build/Release, where coldstart finds it by itself.
//
//   npm run build:cuda [-- --arch ARCHITECTURES] [--with-cublas] [--target NAME …]
//
//   --arch          native (default: the GPUs of this machine), all (every one that CUDA 13 and ggml know), or a list as CMake
//                   takes it: 90a, "86;89", …
//   --with-cublas   link the toolkit's cuBLAS instead of our GEMM; it is then needed where the backend runs, too
//   --target NAME   only this target of native/cuda/CMakeLists.txt, in build/cuda
//
// Needs CUDA 13 (nvcc in PATH, or CUDACXX or CUDA_PATH) and CMake; no GPU, unless for --arch native.
// COLDSTART_BUILD_JOBS sets the number of parallel compiler runs (default: the number of cores).

import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { findNvcc } from "./cuda-toolkit.mjs";
import { ensureLlamaCpp } from "./llama-cpp.mjs";

/** Machine code for each, and one intermediate code for what comes after. */
const ALL = "75-real;80-real;86-real;89-real;90a-real;100-real;120-real;120-virtual";

const root = path.resolve(import.meta.dirname, "..");
const { values: options } = parseArgs({
  options: {
    arch: { type: "string", default: "native" },
    "with-cublas": { type: "boolean", default: false },
    target: { type: "string", multiple: true, default: [] },
  },
});

const nvcc = findNvcc();
if (nvcc === undefined) {
  console.error("There is no nvcc: install the CUDA 13 toolkit, and put its bin folder into PATH or set CUDA_PATH.");
  process.exit(1);
}
await ensureLlamaCpp();

const tree = path.join(root, "build", "cuda");
const plugin = options["with-cublas"] ? "ggml-cuda-cublas" : "ggml-cuda";
const started = Date.now();
run("cmake", [
  ...["-S", path.join(root, "native", "cuda"), "-B", tree],
  ...(spawnSync("ninja", ["--version"]).status === 0 ? ["-G", "Ninja"] : []),
  `-DCMAKE_CUDA_COMPILER=${nvcc}`,
  `-DCMAKE_CUDA_ARCHITECTURES=${architectures(options.arch)}`,
  "-DCMAKE_BUILD_TYPE=Release",
]);
const targets = options.target.length > 0 ? options.target : [plugin];
const jobs = process.env["COLDSTART_BUILD_JOBS"] ?? String(os.availableParallelism());
run("cmake", ["--build", tree, "--parallel", jobs, "--target", ...targets]);
console.error(`Built in ${((Date.now() - started) / 1000).toFixed(0)} s.`);
if (targets.includes(plugin)) install();

/** As CMake takes them. Of Hopper only 90a has the instructions that our GEMM is made of. */
function architectures(asked) {
  if (asked === "all") return ALL;
  if (asked === "native") return "native";
  return asked
    .split(/[;,]/)
    .map((one) => (one === "90" ? "90a" : one))
    .map((one) => (/^\d+[af]?$/.test(one) ? `${one}-real` : one))
    .join(";");
}

function install() {
  const [prefix, suffix] = process.platform === "win32" ? ["", ".dll"] : ["lib", ".so"];
  const built = path.join(tree, "bin", `${prefix}${plugin}${suffix}`);
  const release = path.join(root, "build", "Release");
  fs.mkdirSync(release, { recursive: true });
  const placed = path.join(release, `${prefix}ggml-cuda${suffix}`);
  fs.copyFileSync(built, `${placed}.part`);
  fs.renameSync(`${placed}.part`, placed);
  console.error(`${placed}: ${(fs.statSync(placed).size / 2 ** 20).toFixed(1)} MiB`);
  if (process.platform !== "linux") return;
  const dynamic = execFileSync("readelf", ["-d", placed], { encoding: "utf8" });
  const needed = [...dynamic.matchAll(/\(NEEDED\)[^[]*\[([^\]]+)\]/g)].map((match) => match[1]);
  console.error(`It needs: ${needed.join(", ")}`);
}

function run(command, args) {
  const { status, error } = spawnSync(command, args, { stdio: "inherit" });
  if (error !== undefined) console.error(error.message);
  if (status !== 0) process.exit(status ?? 1);
}
