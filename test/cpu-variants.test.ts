// A build with every CPU variant, as prebuilds are. It takes long to make, so it is tested where somebody has made it:
// node scripts/build.mjs --into build/variants -D COLDSTART_CPU_VARIANTS=ON

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import type { Backend } from "../lib/index.js";
import { PROMPT, root, TINY_STORIES } from "./support/models.js";

const built = path.join(root, "build", "variants", "Release");
const isVariant = (file: string) => /^(lib)?ggml-cpu-.*\.(so|dll)$/.test(file);

describe("a build with all CPU variants", () => {
  let folder: string;
  before(function () {
    if (!existsSync(path.join(built, "coldstart.node"))) this.skip();
    folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
  });
  after(() => {
    if (folder) rmSync(folder, { recursive: true });
  });

  /** Runs the command line with the addon of a folder, from a folder with nothing in it. */
  function coldstart(release: string, args: string[]): { status: number | null; stdout: string; stderr: string } {
    return spawnSync(process.execPath, [path.join(root, "dist/cli/main.js"), ...args], {
      cwd: os.tmpdir(),
      env: { ...process.env, COLDSTART_ADDON: path.join(release, "coldstart.node") },
      encoding: "utf8",
    });
  }
  const copy = (wanted: (file: string) => boolean) => {
    const to = mkdtempSync(path.join(folder, "release-"));
    for (const file of readdirSync(built).filter(wanted)) copyFileSync(path.join(built, file), path.join(to, file));
    return to;
  };
  const cpuOf = (release: string) => {
    const { stdout, stderr } = coldstart(release, ["backends", "--json"]);
    const cpu = (JSON.parse(stdout || "[]") as Backend[]).find(({ name }) => name === "CPU");
    assert.ok(cpu, stderr);
    return path.basename(cpu.path);
  };

  it("computes with the one that is best for this processor, and says which", () => {
    const best = cpuOf(built);
    assert.ok(isVariant(best));
    // The best is no other when worse ones are gone, and another when it is gone itself.
    assert.equal(cpuOf(copy((file) => !isVariant(file) || file === best)), best);
    if (best.includes("x64")) return;
    assert.notEqual(cpuOf(copy((file) => file !== best)), best);
  });

  for (const isolation of ["none", "process"]) {
    it(`generates, with isolation "${isolation}"`, () => {
      const args = ["run", TINY_STORIES, "-p", PROMPT, "-t", "0", "-n", "20", "--isolation", isolation];
      const { status, stdout, stderr } = coldstart(built, args);
      assert.equal(status, 0, stderr);
      assert.ok(stdout.length > PROMPT.length + 20);
    });
  }

  it("fails with a reason where no variant is there", () => {
    const { status, stderr } = coldstart(
      copy((file) => !isVariant(file)),
      ["devices"],
    );
    assert.equal(status, 1);
    assert.match(stderr, /There is no CPU backend for this processor in .*\[BACKEND_UNAVAILABLE\]\n$/);
  });
});
