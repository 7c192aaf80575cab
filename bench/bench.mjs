// Measures coldstart beside llama.cpp's own tools and other libraries, and writes tables and plots.
//
//   npm run bench [-- --only SCENARIO …] [--quick] [--rounds N]
//
//   --only SCENARIO  only this one; the others keep the results they have
//   --quick          two rounds and less work each, to see that everything runs; results go to bench/quick
//   --rounds N       how often each contender is measured (default 5)
//
// Needed before: `npm install` in the root folder, which builds coldstart. The tools, the other libraries and the models
// are made here, once. Nothing else should run on the machine meanwhile.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { page } from "./report/markdown.mjs";
import { plot } from "./report/svg.mjs";
import { describeMachine, describeRun } from "./run/machine.mjs";
import { runCase } from "./run/rounds.mjs";
import { scenarios } from "./scenarios/index.mjs";
import { bench, root } from "./setup/paths.mjs";
import { installPeers } from "./setup/peers.mjs";
import { buildTools } from "./setup/upstream.mjs";

const { only, quick, rounds } = parseArgs({
  options: {
    only: { type: "string", multiple: true, default: [] },
    quick: { type: "boolean", default: false },
    rounds: { type: "string" },
  },
}).values;

const unknown = only.filter((name) => !scenarios.some((scenario) => scenario.name === name));
if (unknown.length > 0) {
  console.error(`Unknown: ${unknown.join(", ")}. There are ${scenarios.map(({ name }) => name).join(", ")}.`);
  process.exit(1);
}
if (!fs.existsSync(path.join(root, "dist", "index.js"))) {
  console.error("coldstart is not built. Run npm install, or npm run build, in the root folder.");
  process.exit(1);
}

await buildTools();
installPeers();
execFileSync(process.execPath, ["--import", "tsx", path.join(bench, "models.ts")], { cwd: root, stdio: "ignore" });

const settings = { cores: os.availableParallelism(), quick, rounds: Number(rounds ?? (quick ? 2 : 5)) };
const output = quick ? path.join(bench, "quick") : bench;
const results = path.join(output, "results");
fs.mkdirSync(results, { recursive: true });

for (const scenario of scenarios.filter(({ name }) => only.length === 0 || only.includes(name))) {
  const result = await measure(scenario);
  fs.writeFileSync(path.join(results, `${scenario.name}.json`), JSON.stringify(result, null, 2) + "\n");
  if (!result.skipped) fs.writeFileSync(path.join(results, `${scenario.name}.svg`), plot(result));
  fs.writeFileSync(path.join(output, "RESULTS.md"), page(allResults()));
  // A library that cannot take part is no failure of ours, but coldstart has to.
  if (result.cases.some(({ absent }) => Object.keys(absent).some((name) => name.startsWith("coldstart")))) {
    process.exitCode = 1;
  }
}
console.error(
  `Written to ${path.relative(process.cwd(), path.join(output, "RESULTS.md"))} and the folder results beside it.`,
);

async function measure({ name, title, about, cases, skip }) {
  const head = { scenario: name, title, about, machine: describeMachine(), measured: describeRun(settings) };
  const skipped = await skip?.();
  if (skipped) return { ...head, skipped, cases: [] };
  const done = [];
  for (const one of cases(settings)) {
    done.push(await runCase(one, one.rounds ?? settings.rounds, (line) => console.error(`${name}: ${line}`)));
  }
  return { ...head, cases: done };
}

/** Those of this run and of earlier ones. */
function allResults() {
  return scenarios
    .map(({ name }) => path.join(results, `${name}.json`))
    .filter((file) => fs.existsSync(file))
    .map((file) => JSON.parse(fs.readFileSync(file, "utf8")));
}
