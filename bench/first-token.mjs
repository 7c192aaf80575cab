// From the start of a process to the first piece of text on its standard output, embedded model, warm file cache.
//
//   node bench/first-token.mjs
//
// With `npm install` in bench/, node-llama-cpp takes part.

import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { alternate, report } from "./stats.mjs";

const here = import.meta.dirname;

function firstByte(args) {
  return new Promise((resolve, reject) => {
    const started = performance.now();
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    child.stdout.once("data", () => resolve(performance.now() - started));
    child.on("error", reject);
    child.on("exit", (code) => code !== 0 && reject(new Error(`exit ${code}`)));
  });
}

const contenders = {
  "node -e (starts and prints, nothing else)": () => firstByte(["-e", "process.stdout.write('x')"]),
  coldstart: () => firstByte([path.join(here, "contenders", "first-token.coldstart.mjs")]),
};
if (fs.existsSync(path.join(here, "node_modules", "node-llama-cpp"))) {
  contenders["node-llama-cpp"] = () => firstByte([path.join(here, "contenders", "first-token.node-llama-cpp.mjs")]);
}
console.log(report("Process start to first text", "ms", await alternate(contenders, 15)));
