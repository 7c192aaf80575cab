// Prints how fast one thread quantizes rows, for each of the K types and Q8_0: ggml's own code, and coldstart's for the
// instructions that this CPU has.
//
//   node bench/quantize-rows.mjs
//
// Needed before: `npm install` in the root folder. Nothing else should run on the machine meanwhile.

import { createRequire } from "node:module";
import path from "node:path";
import { median } from "./report/stats.mjs";
import { root } from "./setup/paths.mjs";

const testing = createRequire(import.meta.url)(path.join(root, "build", "testing", "coldstart_testing.node"));
const COLUMNS = 4096;
const ROWS = 32;
const ROUNDS = 9;

const random = (scale) => Float32Array.from({ length: COLUMNS * ROWS }, () => (Math.random() - 0.5) * scale);
const values = random(0.1);
const importance = random(10).subarray(0, COLUMNS).map(Math.abs);
const [ggml, ...wide] = testing.availableInstructions();

/** Millions of weights a second, of each; they take turns. */
function measure(type, weights) {
  const speeds = new Map([ggml, ...wide].map((name) => [name, []]));
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, samples] of speeds) {
      const started = performance.now();
      testing.quantizeRows(type, values, COLUMNS, weights, name);
      samples.push(values.length / (performance.now() - started) / 1000);
    }
  }
  return new Map([...speeds].map(([name, samples]) => [name, median(samples)]));
}

for (const weights of [undefined, importance]) {
  console.log(
    `\n${weights ? "With importance" : "Without importance"}: millions of weights a second, and times ggml's\n`,
  );
  for (const type of ["q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "q8_0"]) {
    const speeds = measure(type, weights);
    const base = speeds.get(ggml);
    const ratios = wide.map((name) => `${name} ${(speeds.get(name) / base).toFixed(1)} x`);
    console.log(`${type}  ggml ${base.toFixed(1)}  ${ratios.join("  ")}`);
  }
}
