// llama.cpp's own tools of the pin as upstream has it, in bench/upstream: without coldstart's patches for speed, which
// would flatter whatever is compared with. The one patch applied keeps quantized prompts from ending the process.

import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { ensureLlamaCpp } from "../../scripts/llama-cpp.mjs";
import { bench, root } from "./paths.mjs";

const TOOLS = ["llama-bench", "llama-batched-bench", "llama-quantize", "llama-server"];
const folder = path.join(bench, "upstream");
const build = path.join(folder, "build");
// With a dot in front, TypeScript and others do not take its sources for ours.
const source = path.join(folder, ".llama.cpp");

const DEFINITIONS = {
  CMAKE_BUILD_TYPE: "Release",
  GGML_NATIVE: "ON",
  GGML_CCACHE: "OFF", // set up below, in the same way for all compilers
  LLAMA_OPENSSL: "OFF",
  LLAMA_BUILD_TESTS: "OFF",
  LLAMA_BUILD_APP: "OFF",
  LLAMA_BUILD_UI: "OFF",
  LLAMA_USE_PREBUILT_UI: "OFF",
};

/** Fetches and builds what is not there yet. */
export async function buildTools() {
  const outcome = await ensureLlamaCpp({ directory: source, patchFolder: onlyTheCrashFix() });
  if (outcome === "present" && TOOLS.every((name) => fs.existsSync(tool(name)))) return;
  if (!fs.existsSync(path.join(build, "CMakeCache.txt"))) configure();
  console.error("Compiling llama.cpp's own tools. This takes some minutes, once.");
  const jobs = process.env.COLDSTART_BUILD_JOBS ?? String(os.availableParallelism());
  cmake(["--build", build, "--config", "Release", "--parallel", jobs, "--target", ...TOOLS]);
}

/** The path of one of llama.cpp's tools. */
export function tool(name) {
  return path.join(build, "bin", process.platform === "win32" ? `${name}.exe` : name);
}

/** llama-bench with coldstart's patches, or undefined when `npm run build:tools` was not run: it tells kernels from the rest. */
export function patchedLlamaBench() {
  const file = path.join(root, "build", "cmake", "bin", "llama-bench");
  return fs.existsSync(file) ? file : undefined;
}

function onlyTheCrashFix() {
  const patches = path.join(root, "patches");
  const chosen = path.join(folder, "patches");
  fs.rmSync(chosen, { recursive: true, force: true });
  fs.mkdirSync(chosen, { recursive: true });
  for (const name of fs.readdirSync(patches).filter((name) => name.startsWith("0001-"))) {
    fs.copyFileSync(path.join(patches, name), path.join(chosen, name));
  }
  return chosen;
}

function configure() {
  const definitions = { ...DEFINITIONS };
  if (runs("ccache")) definitions.CMAKE_C_COMPILER_LAUNCHER = definitions.CMAKE_CXX_COMPILER_LAUNCHER = "ccache";
  const generator = runs("ninja") ? ["-G", "Ninja"] : [];
  const flags = Object.entries(definitions).map(([name, value]) => `-D${name}=${value}`);
  cmake(["-S", source, "-B", build, ...generator, ...flags]);
}

function cmake(args) {
  // Its messages are about progress; standard output is for results.
  execFileSync("cmake", args, { stdio: ["ignore", process.stderr, "inherit"] });
}

function runs(command) {
  return spawnSync(command, ["--version"], { stdio: "ignore" }).status === 0;
}

if (process.argv[1] === import.meta.filename) await buildTools();
