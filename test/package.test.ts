// The package as it is installed: both import styles, types, and what the binaries ask of a machine.

import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { PROMPT, root, TINY_STORIES } from "./support/models.js";

const run = promisify(execFile);
const story = `const model = await loadModel(${JSON.stringify(TINY_STORIES)});
  for await (const { text } of model.generate(${JSON.stringify(PROMPT)}, { temperature: 0 })) process.stdout.write(text);
  await model.dispose();`;

describe("the package", () => {
  /** An application that has coldstart in its node_modules. */
  let app: string;
  before(() => {
    app = mkdtempSync(path.join(os.tmpdir(), "coldstart-app-"));
    execFileSync("mkdir", ["-p", path.join(app, "node_modules")]);
    symlinkSync(root, path.join(app, "node_modules", "coldstart"), "dir");
  });
  after(() => rmSync(app, { recursive: true }));

  it("streams a story under require", async () => {
    writeFileSync(
      path.join(app, "main.cjs"),
      `const { loadModel } = require("coldstart");\n(async () => { ${story} })();`,
    );
    const { stdout, stderr } = await run(process.execPath, ["--no-warnings", path.join(app, "main.cjs")]);
    assert.match(stdout, /^ a quiet .*\.$/, stderr);
  });

  it("streams a story under import", async () => {
    writeFileSync(path.join(app, "main.mjs"), `import { loadModel } from "coldstart";\n${story}`);
    const { stdout } = await run(process.execPath, [path.join(app, "main.mjs")]);
    assert.match(stdout, /^ a quiet .*\.$/);
  });

  it("has no top-level await, which require would refuse", () => {
    for (const file of readdirSync(path.join(root, "lib"), { recursive: true, encoding: "utf8" })) {
      if (!file.endsWith(".ts") || file === path.join("cli", "main.ts")) continue;
      assert.doesNotMatch(readFileSync(path.join(root, "lib", file), "utf8"), /^(\w.*= )?await /m, file);
    }
  });

  it("is typed for a strict TypeScript application of either kind", async () => {
    const source = `import { loadModel, ColdstartError, type GenerationResult } from "coldstart";
      export async function main(): Promise<GenerationResult> {
        await using model = await loadModel("x.gguf", { contextLength: 10, kvCache: { keyType: "q8_0" } });
        const generation = model.generate("x", { seed: 1 });
        for await (const chunk of generation) { const text: string = chunk.text; void text; }
        // @ts-expect-error: a misspelt option
        model.generate("x", { temprature: 1 });
        // @ts-expect-error: no such type
        await loadModel("x.gguf", { kvCache: { keyType: "q3_K" } });
        try { return await generation.result; } catch (error) {
          if (error instanceof ColdstartError && error.code === "CONTEXT_OVERFLOW") throw error;
          throw new Error();
        }
      }`;
    writeFileSync(path.join(app, "types.mts"), source);
    writeFileSync(path.join(app, "types.cts"), source);
    const tsc = path.join(root, "node_modules", "typescript", "bin", "tsc");
    const flags = [
      "--noEmit",
      "--strict",
      "--target",
      "es2022",
      "--lib",
      "es2022,esnext.disposable,dom,dom.asynciterable",
      "--module",
      "node20",
    ];
    const typeRoots = ["--typeRoots", path.join(root, "node_modules", "@types"), "--types", "node"];
    const { stdout } = await run(
      process.execPath,
      [tsc, ...flags, ...typeRoots, path.join(app, "types.mts"), path.join(app, "types.cts")],
      { cwd: app },
    ).catch((error: unknown) => error as { stdout: string });
    assert.equal(stdout, "");
  });

  describe("its binaries", () => {
    const folder = path.join(root, "build", "Release");
    before(function () {
      if (process.platform !== "linux") this.skip(); // They are read with readelf.
    });

    function dynamicSection(file: string): {
      needed: string[];
      soname: string | undefined;
      runpath: string | undefined;
    } {
      const text = execFileSync("readelf", ["-d", path.join(folder, file)], { encoding: "utf8" });
      const all = (tag: string) =>
        [...text.matchAll(new RegExp(`\\(${tag}\\).*\\[(.*)\\]`, "g"))].map((match) => match[1]!);
      return { needed: all("NEEDED"), soname: all("SONAME")[0], runpath: all("RUNPATH")[0] };
    }

    it("depend on libc and libstdc++ alone, and on each other", () => {
      const shipped = readdirSync(folder);
      assert.ok(shipped.includes("coldstart.node") && shipped.includes("libggml-base.so"));
      // libc with its parts, and libstdc++ with the compiler's support library.
      const system = /^(libc|libm|libpthread|libdl|librt|ld-linux[\w-]*|libstdc\+\+|libgcc_s)\.so\.\d+$/;
      for (const file of shipped) {
        const { needed, runpath } = dynamicSection(file);
        const others = needed.filter((name) => !system.test(name));
        for (const name of others) assert.ok(shipped.includes(name), `${file} needs ${name}`);
        if (others.length > 0) assert.equal(runpath, "$ORIGIN", `${file} looks beside itself`);
      }
    });

    it("carry sonames without versions, so that backend plugins bind to our ggml", () => {
      assert.equal(dynamicSection("libggml-base.so").soname, "libggml-base.so");
      for (const file of readdirSync(folder)) assert.doesNotMatch(file, /^libggml.*\.so\.\d/);
    });

    it("bring one ggml and one OpenMP into a process, ours", async () => {
      const { stdout } = await run(process.execPath, [
        "-e",
        `require(${JSON.stringify(root)}).listDevices(); process.stdout.write(require("fs").readFileSync("/proc/self/maps", "utf8"))`,
      ]);
      for (const library of ["libggml-base", "libgomp"]) {
        const files = new Set([...stdout.matchAll(new RegExp(`/\\S*/${library}\\S*`, "g"))].map(([file]) => file));
        const expected = readdirSync(folder)
          .filter((file) => file.startsWith(library))
          .map((file) => path.join(folder, file));
        assert.deepEqual([...files], expected);
      }
    });
  });
});
