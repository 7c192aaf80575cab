// The examples of the documentation that need no other model than the package's: they run as they stand.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { root } from "./support/models.js";
import { temporaryFolder } from "./support/temporary-folder.js";

/** What would take the tests long, or is not here: GPUs, other machines. */
const LEFT_OUT = /strict: true|workers|gpuLayers: "all"|https?:\/\/(?!json-schema)/;

const pages = [
  "README.md",
  ...readdirSync(path.join(root, "docs"))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
];

describe("examples of the documentation", function () {
  this.timeout(60_000);
  const folder = temporaryFolder();
  for (const page of pages) {
    const blocks = readFileSync(path.join(root, page), "utf8").matchAll(/^```js\n(.*?)^```$/gms);
    const runnable = [...blocks]
      .map((match) => match[1] ?? "")
      .filter((code) => code.includes('"models/tiny-stories.gguf"') && !LEFT_OUT.test(code));
    if (runnable.length === 0) continue;
    it(`${page}: ${runnable.length}`, () => {
      mkdirSync(folder.path("node_modules"));
      symlinkSync(root, folder.path("node_modules", "coldstart"), "junction");
      symlinkSync(path.join(root, "models"), folder.path("models"), "junction");
      runnable.forEach((code, i) => {
        const file = folder.path(`${i}.${code.includes("require(") ? "cjs" : "mjs"}`);
        writeFileSync(file, code);
        const output = execFileSync(process.execPath, [file], { cwd: folder.path(), encoding: "utf8", stdio: "pipe" });
        assert.notEqual(output.trim(), "", code);
      });
    });
  }
});
