// What runs ggml's CPU threads: OpenMP, as built by default, beside ggml's own pool, which spins. Each alone and beside a
// process that keeps one core busy, with one thread and with as many as there are cores.
//
//   node scripts/build.mjs --into build/no-openmp -D COLDSTART_OPENMP=OFF
//   node bench/threads.mjs [model.gguf]

import { execFile, spawn } from "node:child_process";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { alternate, report } from "./stats.mjs";
import { model as embedded, root } from "./tools.mjs";

const file = process.argv[2] ?? embedded;
const runtimes = { OpenMP: path.join(root, "build"), "ggml's pool": path.join(root, "build", "no-openmp") };

async function decode(build, threads) {
  const addon = path.join(build, "Release", "coldstart.node");
  const script = path.join(import.meta.dirname, "contenders", "decode.coldstart.mjs");
  const env = { ...process.env, COLDSTART_ADDON: addon };
  const { stdout } = await promisify(execFile)(process.execPath, [script, file, String(threads)], { env });
  return Number(stdout);
}

async function besideBusyProcess(measure) {
  const busy = spawn(process.execPath, ["-e", "for (const end = Date.now() + 60_000; Date.now() < end; );"]);
  try {
    return await measure();
  } finally {
    busy.kill("SIGKILL");
  }
}

const cores = os.availableParallelism();
for (const threads of [1, cores]) {
  const contenders = {};
  for (const [name, build] of Object.entries(runtimes)) contenders[`${name}, alone`] = () => decode(build, threads);
  for (const [name, build] of Object.entries(runtimes)) {
    contenders[`${name}, beside a busy process`] = () => besideBusyProcess(() => decode(build, threads));
  }
  const title = `${threads} of ${cores} cores, ${path.basename(file)}`;
  console.log(report(title, "tokens/s", await alternate(contenders, 5)));
}
