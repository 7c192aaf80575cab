// The GPU kit's `run`: builds, tests, measures and reports, on a machine with an NVIDIA GPU and no network.
//
//   ./run [--no-gpu] [--only STAGE …] [--skip STAGE …] [--quick] [--cublas FILE] [--report FOLDER] [--folder FOLDER]
//
//   --no-gpu         what needs no GPU: builds the CPU part and runs its tests
//   --only, --skip   some of the stages: build machine cpu-tests checks gpu-tests sanitizer kernels engine
//   --quick          less of each measurement
//   --cublas FILE    the libcublas.so.13 to compare with; default: the one of the toolkit, or of Python's packages
//   --report FOLDER  where report.json, report.md and one log per stage go; default: report, beside `run`
//   --folder FOLDER  where models are made; default: the system's folder for temporary files
//
// A stage that is interrupted is done again by the next `run`; builds go on where they were.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";

const root = path.resolve(import.meta.dirname, "..");
const { values: options } = parseArgs({
  options: {
    "no-gpu": { type: "boolean", default: false },
    only: { type: "string", multiple: true, default: [] },
    skip: { type: "string", multiple: true, default: [] },
    quick: { type: "boolean", default: false },
    cublas: { type: "string" },
    report: { type: "string", default: path.resolve(root, "..", "report") },
    folder: { type: "string", default: path.join(os.tmpdir(), "coldstart-gpu-bench") },
  },
});

const programs = path.join(root, "build", "cuda", "bin");
const plugin = path.join(root, "build", "Release", "libggml-cuda.so");
const prebuilt = fs.existsSync(path.join(root, "build", "prebuilt"));
const gpu = !options["no-gpu"];
const cublas = gpu ? (options.cublas ?? findCublas()) : undefined;
const quick = options.quick ? ["--quick"] : [];
const compare = cublas === undefined ? [] : ["--cublas", cublas];
const node = process.execPath;
fs.mkdirSync(options.report, { recursive: true });

const STAGES = [
  { name: "build", steps: prebuilt ? [] : buildSteps() },
  { name: "machine", steps: machineSteps() },
  { name: "cpu-tests", steps: gpu ? [] : [[node, "node_modules/mocha/bin/mocha.js", "test/native/**/*.test.ts", "test/generation.test.ts", "test/parity.test.ts", "test/loading.test.ts", "test/plan.test.ts"]] }, // prettier-ignore
  { name: "checks", gpu, steps: [program("instructions_check"), program("gemm_check", "check", ...quick, ...compare), program("quantize_check", "--check"), program("kv_check", "--check")] }, // prettier-ignore
  { name: "gpu-tests", gpu, steps: [[node, "scripts/test-gpu.mjs", "--installed"]] },
  { name: "sanitizer", gpu, steps: sanitizerSteps() },
  { name: "kernels", gpu, steps: [program("gemm_check", "bench", "--tune", ...quick, ...compare, "--json", path.join(options.report, "gemm.jsonl")), program("quantize_check", "--bench", ...quick, "--json", path.join(options.report, "quantize.jsonl")), program("kv_check", "--bench", ...quick, "--json", path.join(options.report, "kv.jsonl"))] }, // prettier-ignore
  { name: "engine", gpu, steps: [engineBench()] },
];

const unknown = [...options.only, ...options.skip].filter((name) => !STAGES.some((stage) => stage.name === name));
if (unknown.length > 0) {
  console.error(`Unknown: ${unknown.join(", ")}. There are ${STAGES.map(({ name }) => name).join(", ")}.`);
  process.exit(1);
}

const results = [];
for (const stage of STAGES) {
  if (stage.steps.length === 0 || stage.gpu === false || options.skip.includes(stage.name)) continue;
  if (options.only.length > 0 && !options.only.includes(stage.name)) continue;
  results.push(run(stage));
  writeReport();
}
process.exitCode = results.every(({ failed }) => failed.length === 0) ? 0 : 1;

function run({ name, steps }) {
  console.log(`== ${name}`);
  const log = path.join(options.report, `${name}.log`);
  const out = fs.openSync(log, "w");
  const started = performance.now();
  const failed = [];
  for (const [command, ...args] of steps) {
    const words = [path.basename(command), ...args].join(" ");
    fs.writeSync(out, `$ ${words}\n`);
    const { status, signal, error } = spawnSync(command, args, {
      cwd: root,
      stdio: ["ignore", out, out],
      env: { ...process.env, ...libraryPath() },
    });
    if (status !== 0) failed.push(`${words}: ${error?.message ?? signal ?? `exit ${status}`}`);
  }
  fs.closeSync(out);
  const seconds = (performance.now() - started) / 1000;
  console.log(`   ${seconds.toFixed(1)} s${failed.map((one) => `\n   FAILED ${one}`).join("")}`);
  return { name, seconds, failed, log: fs.readFileSync(log, "utf8") };
}

/** The toolkit's cuBLAS finds its second half beside itself. */
function libraryPath() {
  if (cublas === undefined) return {};
  return { LD_LIBRARY_PATH: [path.dirname(cublas), process.env["LD_LIBRARY_PATH"] ?? ""].filter(Boolean).join(":") };
}

function buildSteps() {
  const tools = ["llama-bench", "llama-batched-bench", "llama-simple", "llama-tokenize", "llama-gguf-split"];
  const cpu = [[node, "scripts/build.mjs", ...tools.flatMap((tool) => ["--tool", tool])]];
  if (!gpu) return cpu;
  const targets = ["ggml-cuda", "instructions_check", "gemm_check", "quantize_check", "kv_check"];
  return [
    ...cpu,
    [node, "scripts/build-cuda.mjs", ...targets.flatMap((target) => ["--target", target])],
    ...(cublas === undefined ? [] : [[node, "scripts/build-cuda.mjs", "--target", "ggml-cuda-cublas"]]),
  ];
}

function machineSteps() {
  const steps = [
    ["uname", "-a"],
    ["lscpu"],
    [node, "dist/cli/main.js", "backends"],
    [node, "dist/cli/main.js", "devices", "--json"],
    [node, "dist/cli/main.js", "doctor", "--json"],
  ];
  return gpu ? [["nvidia-smi"], ...steps] : steps;
}

/** Memory errors and races, in our kernels only: the checks at small sizes. */
function sanitizerSteps() {
  const sanitizer = find("compute-sanitizer");
  if (sanitizer === undefined) return [];
  return ["memcheck", "racecheck"].flatMap((tool) =>
    [
      ["gemm_check", "check", "--quick"],
      ["quantize_check", "--check", "--sanitizer"],
      ["kv_check", "--check", "--sanitizer"],
    ].map(([name, ...args]) => [
      ...[sanitizer, "--tool", tool, "--error-exitcode", "9", "--target-processes", "application-only"],
      ...program(name, ...args),
    ]),
  );
}

function engineBench() {
  const reference = path.join(programs, "libggml-cuda-cublas.so");
  return [
    ...[node, "bench/gpu/bench.mjs", ...quick, "--folder", options.folder, "--plugin", plugin],
    ...["--json", path.join(options.report, "engine.json")],
    ...(cublas !== undefined && fs.existsSync(reference) ? ["--cublas-plugin", reference] : []),
  ];
}

function program(name, ...args) {
  return [path.join(programs, name), ...args.flat()];
}

function find(command) {
  const folders = [...(process.env["PATH"] ?? "").split(path.delimiter), "/usr/local/cuda/bin"];
  return folders.map((folder) => path.join(folder, command)).find((file) => fs.existsSync(file));
}

function findCublas() {
  const { stdout } = spawnSync(
    "sh",
    ["-c", "ls /usr/local/cuda*/lib64/libcublas.so.13 /usr/local/cuda*/targets/*/lib/libcublas.so.13 2>/dev/null; ldconfig -p | grep -o '/[^ ]*libcublas.so.13$'; python3 -c 'import nvidia, glob, os; [print(f) for p in nvidia.__path__ for f in glob.glob(p + \"/**/libcublas.so.13\", recursive=True)]' 2>/dev/null"], // prettier-ignore
    { encoding: "utf8" },
  );
  return stdout.split("\n").find(Boolean);
}

function writeReport() {
  const report = {
    date: new Date().toISOString(),
    prebuilt,
    cublas,
    stages: results.map(({ name, seconds, failed }) => ({ name, seconds, failed })),
  };
  fs.writeFileSync(path.join(options.report, "report.json"), JSON.stringify(report, null, 2) + "\n");
  const lines = ["# GPU kit", "", report.date, ""];
  for (const { name, seconds, failed, log } of results) {
    lines.push(`## ${name}: ${failed.length === 0 ? "passed" : "FAILED"}, ${seconds.toFixed(1)} s`, "", "```");
    lines.push(log.length > 40_000 ? `${log.slice(0, 20_000)}\n…\n${log.slice(-20_000)}` : log.trimEnd(), "```", "");
  }
  fs.writeFileSync(path.join(options.report, "report.md"), lines.join("\n"));
}
