// `coldstart convert`, as built.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { writeJson, writeWeights } from "./support/checkpoint.js";
import { FAMILIES } from "./support/checkpoint-families.js";
import { byteLevelTokenizer } from "./support/hf-tokenizers.js";
import { root } from "./support/models.js";

describe("coldstart convert", () => {
  let folder: string;
  let checkpoint: string;
  before(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
    checkpoint = path.join(folder, "Tiny-1B");
    const { config, reference } = FAMILIES["qwen3"]!();
    writeJson(checkpoint, {
      "config.json": config,
      "tokenizer.json": byteLevelTokenizer({ pre: "qwen2", eos: "<|end|>" }),
    });
    writeWeights(checkpoint, reference.tensors, 2);
  });
  after(() => rmSync(folder, { recursive: true }));

  function coldstart(...args: string[]) {
    return spawnSync(process.execPath, [path.join(root, "dist/cli/main.js"), ...args], { encoding: "utf8" });
  }

  it("makes a file that runs, and says what it is", () => {
    const file = path.join(folder, "model.gguf");
    const { status, stdout, stderr } = coldstart("convert", checkpoint, file, "--type", "F16");
    assert.equal(status, 0, stderr);
    assert.match(stdout, /model\.gguf: qwen3, 24 tensors, F16, \d+/);
    const run = coldstart("run", file, "-p", "One day,", "-n", "3", "--quiet");
    assert.equal(run.status, 0, run.stderr);
    assert.ok(run.stdout.startsWith("One day,"));
  });

  it("writes into a folder under the model's name, and tells it as JSON", () => {
    const { stdout } = coldstart("convert", checkpoint, folder, "--json");
    const file = path.join(folder, "Tiny-1B.gguf");
    assert.equal((JSON.parse(stdout) as { path: string }).path, file);
    assert.ok(existsSync(file));
  });

  it("says what is wrong, and exits with 1, or 2 for wrong usage", () => {
    const missing = coldstart("convert", path.join(folder, "none"), path.join(folder, "x.gguf"));
    assert.equal(missing.status, 1);
    assert.match(missing.stderr, /There is no folder at .* \[MODEL_NOT_FOUND\]/);
    assert.equal(coldstart("convert", checkpoint, path.join(folder, "x.gguf"), "--type", "Q4").status, 2);
  });
});
