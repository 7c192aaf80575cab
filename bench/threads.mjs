// What runs ggml's CPU threads: OpenMP, as built by default, beside ggml's own pool, which spins. Each alone and beside a
// process that keeps one core busy, with one thread, with as many as there are cores, and with as many as coldstart
// chooses by itself (`auto`, which only the build with OpenMP has).
//
//   node scripts/build.mjs --into build/no-openmp -D COLDSTART_OPENMP=OFF
//   node bench/threads.mjs [tiny-stories | 4m-f16 | 125m-q4_0 | 152k-vocabulary-f16]

import os from "node:os";
import path from "node:path";
import { caseLines } from "./report/markdown.mjs";
import { besideBusyProcess, inChild } from "./run/child.mjs";
import { runCase } from "./run/rounds.mjs";
import { model, root } from "./setup/paths.mjs";

const ROUNDS = 5;
const name = process.argv[2] ?? "tiny-stories";
const cores = os.availableParallelism();

function decode(build, threads) {
  const load = { threads, contextLength: 256, parallel: 1 };
  const shape = { streams: 1, tokens: 128, promptTokens: 16, prefixTokens: 0, repeat: 3 };
  const env = { COLDSTART_ADDON: path.join(root, build, "Release", "coldstart.node") };
  return inChild("decode.coldstart.mjs", { model: model(name), load, ...shape }, env);
}

function twice(build, threads) {
  return async () => {
    const { decode: alone } = await decode(build, threads);
    const { decode: beside } = await besideBusyProcess(() => decode(build, threads));
    return { alone, "beside a busy process": beside };
  };
}

const contenders = { "OpenMP, threads: auto": twice("build", "auto") };
for (const threads of [...new Set([1, cores])]) {
  contenders[`OpenMP, threads: ${threads}`] = twice("build", threads);
  contenders[`ggml's pool, threads: ${threads}`] = twice(path.join("build", "no-openmp"), threads);
}
const metrics = { alone: { unit: "tokens/s" }, "beside a busy process": { unit: "tokens/s" } };
const result = await runCase({ title: `${name}, ${cores} cores`, metrics, contenders }, ROUNDS, console.error);
console.log(caseLines(result).join("\n"));
