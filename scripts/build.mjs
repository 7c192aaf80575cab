// Builds the addon into build/Release. Only what changed is compiled again.
//
//   node scripts/build.mjs [--tools] [--testing] [-DNAME=VALUE …]
//
//   --tools      also llama.cpp's own tools from the same pin, into build/cmake/bin (tests and benches compare with them)
//   -DNAME=VALUE passed to CMake; COLDSTART_* options are listed at the top of CMakeLists.txt
//
// COLDSTART_BUILD_JOBS sets the number of parallel compiler runs (default: the number of cores).

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { ensureLlamaCpp } from "./llama-cpp.mjs";
import { missingTools } from "./toolchain.mjs";

const root = path.resolve(import.meta.dirname, "..");
const tree = path.join(root, "build", "cmake");
const TOOLS = ["llama-simple", "llama-completion", "llama-tokenize", "llama-bench", "llama-batched-bench"];

const args = process.argv.slice(2);
const wantsTools = args.includes("--tools");
const definitions = args.filter((arg) => arg.startsWith("-D"));

const missing = missingTools();
if (missing.length > 0) {
  for (const sentence of missing) console.error(sentence);
  process.exit(1);
}
await ensureLlamaCpp();

if (wantsTools) definitions.push("-DCOLDSTART_TOOLS=ON");
const started = Date.now();
const configured = fs.existsSync(path.join(tree, "CMakeCache.txt"));
if (!configured || definitions.length > 0)
  cmakeJs(
    "configure",
    definitions.map((definition) => `--CD${definition.slice(2)}`),
  );
if (!configured) console.error("Compiling llama.cpp and coldstart. This takes some minutes the first time.");
const jobs = process.env.COLDSTART_BUILD_JOBS ?? String(os.availableParallelism());
cmakeJs("build", ["--parallel", jobs]);
if (wantsTools) for (const target of TOOLS) cmakeJs("build", ["--parallel", jobs, "--target", target]);
console.error(`Built in ${((Date.now() - started) / 1000).toFixed(0)} s.`);

function cmakeJs(command, extra) {
  const cli = path.join(
    path.dirname(createRequire(import.meta.url).resolve("cmake-js/package.json")),
    "bin",
    "cmake-js",
  );
  const { status } = spawnSync(process.execPath, [cli, command, "--out", tree, ...extra], {
    cwd: root,
    stdio: "inherit",
  });
  if (status !== 0) process.exit(status ?? 1);
}
