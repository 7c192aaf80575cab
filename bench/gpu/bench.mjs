// Measures coldstart on an NVIDIA GPU, beside llama.cpp's own tools with the same plugin and with one that links cuBLAS.
//
//   node bench/gpu/bench.mjs [--models NAME …] [--quick] [--folder DIR] [--cublas-plugin FILE] [--json FILE]
//
//   --models NAME    of bench/gpu/models.ts; default: all of them, largest last
//   --quick          shorter prompts, fewer streams
//   --folder DIR     where the models are made, and deleted again; default: the system's folder for temporary files
//   --cublas-plugin  libggml-cuda-cublas.so, the same ggml-cuda with the toolkit's cuBLAS (npm run build:cuda -- --with-cublas
//                    --target ggml-cuda-cublas)
//
// Tools: llama-bench and llama-batched-bench of the pin, in build/cmake/bin (npm run build:native -- --tool llama-bench …).

import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";

const root = path.resolve(import.meta.dirname, "..", "..");
const MODELS = [
  "llama-1b-q4_k_m",
  "llama-1b-f16",
  "llama-8b-q4_k_m",
  "llama-8b-q8_0",
  "llama-8b-f16",
  "qwen-30b-a3b-q4_k_m",
];

const { values: options } = parseArgs({
  options: {
    models: { type: "string", multiple: true, default: [] },
    quick: { type: "boolean", default: false },
    folder: { type: "string", default: path.join(os.tmpdir(), "coldstart-gpu-bench") },
    tools: { type: "string", default: path.join(root, "build", "cmake", "bin") },
    plugin: { type: "string", default: path.join(root, "build", "Release", "libggml-cuda.so") },
    "cublas-plugin": { type: "string" },
    json: { type: "string" },
  },
});
const prompts = options.quick ? [512] : [512, 4096];
const streams = options.quick ? [1, 32] : [1, 8, 32, 128];
const [promptTokens, tokens] = [128, options.quick ? 32 : 64];

const report = { device: gpu(), models: {} };
for (const name of options.models.length > 0 ? options.models : MODELS) {
  const file = path.join(options.folder, `${name}.gguf`);
  step(`${name}: making it`);
  execFileSync(process.execPath, ["--import", "tsx", path.join(root, "bench/gpu/models.ts"), options.folder, name], {
    cwd: root,
  });
  const result = { bytes: fs.statSync(file).size };
  step(`${name}: coldstart`);
  result.coldstart = coldstart(file, prompts, {});
  step(`${name}: coldstart, a cache for each stream`);
  result.split = coldstart(file, [], { layout: "split" });
  step(`${name}: first token`);
  result.firstToken = firstToken(file);
  step(`${name}: llama.cpp's tools, our plugin`);
  result.tools = tools(file, options.plugin);
  if (options["cublas-plugin"] !== undefined) {
    step(`${name}: llama.cpp's tools, cuBLAS`);
    result.cublas = tools(file, options["cublas-plugin"]);
  }
  report.models[name] = result;
  if (options.json !== undefined) fs.writeFileSync(options.json, JSON.stringify(report, null, 2) + "\n");
  fs.rmSync(file);
}
console.log(table(report));

function step(text) {
  console.error(`[${(performance.now() / 1000).toFixed(0)} s] ${text}`);
}

function gpu() {
  const fields = ["name", "driver_version", "memory.total", "clocks.max.sm", "clocks.max.mem", "power.limit"];
  const { stdout } = spawnSync("nvidia-smi", [`--query-gpu=${fields.join(",")}`, "--format=csv,noheader"], {
    encoding: "utf8",
  });
  return stdout?.trim().split("\n") ?? [];
}

function coldstart(model, prompts, kvCache) {
  const load = { gpuLayers: "max", strict: true, kvCache };
  const rounds = options.quick ? 1 : 3;
  const job = JSON.stringify({ model, load, rounds, prompts, streams, promptTokens, tokens });
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    [path.join(import.meta.dirname, "engine.coldstart.mjs"), job],
    { encoding: "utf8", timeout: 180_000 },
  );
  return status === 0 ? JSON.parse(stdout) : { failed: stderr.slice(-2000) };
}

/** Milliseconds from the start of a process to its end, with one token; the second of two runs. By load mode, ours with its phases. */
function firstToken(model) {
  const result = {};
  for (const mode of ["auto", "mmap", "copy"]) {
    const { ms, stderr } = timed(
      process.execPath,
      [path.join(root, "bench/gpu/first-text.coldstart.mjs"), model, mode],
      {},
    );
    result[mode] = { ms, phases: stderr && JSON.parse(stderr.slice(stderr.lastIndexOf("{"))) };
  }
  const { ms } = timed(path.join(options.tools, "llama-simple"), ["-m", model, "-ngl", "99", "-n", "1", "hello"], {
    GGML_BACKEND_PATH: options.plugin,
  });
  return { ...result, "llama-simple": { ms } };
}

function timed(command, args, env) {
  let result;
  for (let i = 0; i < 2; i++) {
    const started = performance.now();
    const { status, stderr } = spawnSync(command, args, {
      encoding: "utf8",
      timeout: 60_000,
      env: { ...process.env, ...env },
    });
    result = status === 0 ? { ms: performance.now() - started, stderr } : {};
  }
  return result;
}

function tools(model, plugin) {
  // The size of one step: what coldstart's default is, too.
  const common = ["-m", model, "-ngl", "99", "-fa", "1", "-ub", "512"];
  const bench = tool("llama-bench", plugin, [...common, "-p", prompts.join(","), "-n", "64", "-r", "3", "-o", "json"]);
  const batched = tool("llama-batched-bench", plugin, [
    ...common.map((part) => (part === "1" ? "on" : part)),
    ...["-dev", "CUDA0", "-npp", String(promptTokens), "-ntg", String(tokens), "-npl", streams.join(",")],
    ...["-c", String(Math.max(...streams) * (promptTokens + tokens)), "--output-format", "jsonl"],
  ]);
  const result = { prefill: {}, decode: {} };
  if (bench.failed ?? batched.failed) result.failed = `${bench.failed ?? ""}${batched.failed ?? ""}`;
  for (const { n_prompt, n_gen, samples_ts } of bench.failed ? [] : JSON.parse(bench.stdout)) {
    const rate = samples_ts.toSorted((a, b) => a - b)[Math.floor(samples_ts.length / 2)];
    if (n_gen === 0) result.prefill[n_prompt] = rate;
    else result.decodeAlone = rate;
  }
  for (const line of batched.failed ? [] : batched.stdout.split("\n").filter((one) => one.startsWith("{"))) {
    const { pl, speed_tg } = JSON.parse(line);
    result.decode[pl] = speed_tg;
  }
  return result;
}

function tool(name, plugin, args) {
  const { stdout, stderr, status, error } = spawnSync(path.join(options.tools, name), args, {
    encoding: "utf8",
    timeout: 120_000,
    maxBuffer: 2 ** 26,
    env: { ...process.env, GGML_BACKEND_PATH: plugin },
  });
  return status === 0 ? { stdout } : { failed: `${name}: ${error?.message ?? stderr.slice(-2000)}\n` };
}

function table({ models }) {
  const lines = [
    "| Model | What | coldstart | coldstart, split cache | llama.cpp, our plugin | llama.cpp, cuBLAS | plugin / cuBLAS |",
    "| --- | --- | --- | --- | --- | --- | --- |",
  ];
  const number = (value) => (value === undefined ? "–" : value.toFixed(value < 100 ? 1 : 0));
  for (const [name, { coldstart, split, tools, cublas, firstToken }] of Object.entries(models)) {
    const row = (what, own, plugin, reference, selected) =>
      lines.push(
        `| ${name} | ${what} | ${number(own)} | ${number(selected)} | ${number(plugin)} | ${number(reference)} | ${plugin && reference ? (plugin / reference).toFixed(2) : "–"} |`,
      );
    for (const size of prompts)
      row(
        `prefill ${size}, tokens/s`,
        coldstart.prefill?.[size],
        tools.prefill[size],
        cublas?.prefill[size],
        split.prefill?.[size],
      );
    row("decode alone, tokens/s", coldstart.decode?.[1], tools.decodeAlone, cublas?.decodeAlone, split.decode?.[1]);
    for (const n of streams)
      row(`decode ${n}, tokens/s`, coldstart.decode?.[n], tools.decode[n], cublas?.decode[n], split.decode?.[n]);
    row("load, ms", coldstart.loadMs);
    row("a process from start to end, with one token, ms", firstToken.auto.ms, firstToken["llama-simple"].ms);
    for (const [who, one] of Object.entries({ coldstart, split, tools, cublas }))
      if (one?.failed)
        lines.push(`| ${name} | ${who} failed: ${one.failed.replaceAll("\n", " ").slice(-400)} | | | | |`);
  }
  return lines.join("\n");
}
