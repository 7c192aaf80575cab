// Builds the addon into build/Release. Only what changed is compiled again.
//
//   node scripts/build.mjs [--into FOLDER] [--tool NAME …] [-DNAME=VALUE …]
//
//   --into FOLDER another build beside the usual one, in FOLDER/Release (default: build); COLDSTART_ADDON=<its
//                coldstart.node> uses it
//   --tool NAME  also this target, which is not built otherwise: one of llama.cpp's own tools, from the same pin, into
//                FOLDER/cmake/bin, which tests and benches compare with; coldstart_cuda_emulation, in FOLDER/testing
//   -DNAME=VALUE passed to CMake; COLDSTART_* options are listed at the top of CMakeLists.txt
//
// COLDSTART_BUILD_JOBS sets the number of parallel compiler runs (default: the number of cores).

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { ensureLlamaCpp } from "./llama-cpp.mjs";
import { missingTools } from "./toolchain.mjs";

const root = path.resolve(import.meta.dirname, "..");
const {
  into,
  tool: tools,
  D: definitions,
} = parseArgs({
  options: {
    into: { type: "string", default: path.join(root, "build") },
    tool: { type: "string", multiple: true, default: [] },
    D: { type: "string", short: "D", multiple: true, default: [] },
  },
}).values;

const tree = path.resolve(into, "cmake");

const missing = missingTools();
if (missing.length > 0) {
  for (const sentence of missing) console.error(sentence);
  process.exit(1);
}
await ensureLlamaCpp();

if (tools.length > 0) definitions.push("COLDSTART_TOOLS=ON");
const started = Date.now();
const configured = fs.existsSync(path.join(tree, "CMakeCache.txt"));
if (!configured || definitions.length > 0)
  cmakeJs(
    "configure",
    definitions.map((definition) => `--CD${definition}`),
  );
if (!configured) console.error("Compiling llama.cpp and coldstart. This takes some minutes the first time.");
const jobs = process.env.COLDSTART_BUILD_JOBS ?? String(os.availableParallelism());
cmakeJs("build", ["--parallel", jobs]);
for (const tool of tools) cmakeJs("build", ["--parallel", jobs, "--target", tool]);
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
