// Where the time of a cold start goes: from the start of a process to its end, with one text of the package's model.
//
//   node bench/cold-start-profile.mjs [model] [rounds]
//
// Medians in milliseconds and shares of the whole, beside a process that runs an empty module.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

if (process.argv[2] === "--child") await child(process.argv[3]);
else parent(process.argv[2], Number(process.argv[3] ?? 41));

async function child(file) {
  const marks = [["Node.js, up to the first line", performance.now()]];
  const mark = (name) => marks.push([name, performance.now()]);
  const { loadModel, version } = await import("../dist/index.js");
  mark("coldstart's JavaScript");
  version();
  mark("the addon and its libraries");
  const model = await loadModel(file, { contextLength: 256, threads: 1 });
  mark("loadModel(): plan, weights, context");
  const [first] = [model.generate("Once upon a time, there was", { maxTokens: 8 })[Symbol.asyncIterator]()];
  await first.next();
  mark("the first text");
  await model.dispose();
  mark("dispose()");
  console.log(JSON.stringify({ origin: performance.timeOrigin, marks, end: now() }));
}

function parent(model = fileURLToPath(new URL("../models/tiny-stories.gguf", import.meta.url)), rounds) {
  const samples = new Map();
  const add = (name, value) => samples.set(name, [...(samples.get(name) ?? []), value]);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "coldstart-profile-"));
  const empty = path.join(folder, "empty.mjs");
  fs.writeFileSync(empty, "");
  for (let round = 0; round < rounds; round++) {
    const started = now();
    const { stdout, stderr } = run(fileURLToPath(import.meta.url), "--child", path.resolve(model));
    const ended = now();
    if (stdout === "") throw new Error(stderr);
    const { origin, marks, end } = JSON.parse(stdout);
    let last = started - origin;
    for (const [name, at] of marks) {
      add(name, at - last);
      last = at;
    }
    add("the end of the process", ended - end);
    add("all", ended - started);
    const before = now();
    run(empty);
    add("(a process with an empty module)", now() - before);
  }
  fs.rmSync(folder, { recursive: true });
  const all = median(samples.get("all"));
  for (const [name, values] of samples)
    console.log(
      name.padEnd(36),
      median(values).toFixed(1).padStart(7),
      `${((100 * median(values)) / all).toFixed(0)} %`.padStart(6),
    );
}

function run(...args) {
  return spawnSync(process.execPath, args, { encoding: "utf8" });
}

function now() {
  return performance.timeOrigin + performance.now();
}

function median(values) {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}
