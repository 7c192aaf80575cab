// Quantizing by another device, without one: a plugin that computes on the CPU plays the CUDA backend (test/fixtures/cuda-quantizer.c).

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { quantizeModel } from "../lib/index.js";
import { addonPath } from "../lib/native.js";
import { coldstartError } from "./support/errors.js";
import { root } from "./support/models.js";
import { inProcess } from "./support/plugins.js";
import { F16, randomModel } from "./support/random-model.js";

interface Outcome {
  device?: string;
  notes?: string[];
  code?: string;
  message?: string;
}

describe("quantizeModel by a device", function () {
  this.timeout(120_000);
  let folder: string;
  const at = (...names: string[]) => path.join(folder, ...names);

  before(function () {
    if (process.platform !== "linux") this.skip(); // As it compiles the plugin.
    folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-device-"));
    const shape = {
      vocabulary: 288,
      width: 256,
      feedForward: 512,
      heads: 8,
      keyValueHeads: 2,
      contextLength: 128,
      tied: false,
    };
    writeFileSync(at("f16.gguf"), randomModel({ ...shape, type: F16, layers: 9 }));
  });
  after(() => folder && rmSync(folder, { recursive: true, force: true }));

  /** A folder with a backend named CUDA. */
  function plugin(...flags: string[]): string {
    const into = mkdtempSync(at("plugin-"));
    const release = (JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")) as { "llama.cpp": { release: string } })[
      "llama.cpp"
    ].release; // prettier-ignore
    writeFileSync(path.join(into, "coldstart-backend.json"), JSON.stringify({ llamaCpp: release }));
    const ggml = path.join(root, "deps/llama.cpp/ggml");
    const base = path.join(path.dirname(addonPath()), "libggml-base.so");
    const includes = [`-I${ggml}/include`, `-I${ggml}/src`, `-I${root}/native`];
    const output = ["-o", path.join(into, "libggml-played.so")];
    const source = path.join(root, "test/fixtures/cuda-quantizer.c");
    const { status, stderr } = spawnSync("cc", ["-shared", "-fPIC", "-pthread", ...flags, ...includes, source, base, ...output], {
      encoding: "utf8",
    }); // prettier-ignore
    assert.equal(status, 0, stderr);
    return into;
  }

  async function quantizeWith(plugins: string, device: string, behavior: string, type = "Q4_K_M"): Promise<Outcome> {
    const [input, output] = [at("f16.gguf"), at("theirs.gguf")];
    const source = `
      import { quantizeModel } from "./lib/index.ts";
      const options = { type: ${JSON.stringify(type)}, device: ${JSON.stringify(device)}, threads: 4 };
      const said = await quantizeModel(${JSON.stringify(input)}, ${JSON.stringify(output)}, options).then(
        ({ device, notes }) => ({ device, notes }),
        ({ code, message }) => ({ code, message }),
      );
      console.log(JSON.stringify(said));`;
    const environment = { COLDSTART_BACKEND_PATH: plugins, COLDSTART_FIXTURE: behavior };
    return JSON.parse(await inProcess(source, environment)) as Outcome;
  }

  async function byCpu(type: "Q4_K_M" | "Q8_0"): Promise<Buffer> {
    const { device, notes } = await quantizeModel(at("f16.gguf"), at("mine.gguf"), { type, device: "cpu" });
    assert.deepEqual([device, notes], ["CPU", []]);
    return readFileSync(at("mine.gguf"));
  }

  it("gives the same bytes, and says which", async () => {
    const plugins = plugin();
    const mine = await byCpu("Q4_K_M");
    for (const device of ["auto", "cuda"]) {
      assert.deepEqual(await quantizeWith(plugins, device, ""), { device: "CUDA0", notes: ["CUDA0 was bound by the source."] });
      assert.ok(readFileSync(at("theirs.gguf")).equals(mine), device);
    } // prettier-ignore
    assert.deepEqual(await quantizeWith(plugins, "cpu", ""), { device: "CPU", notes: [] });
    assert.ok(readFileSync(at("theirs.gguf")).equals(mine));
  });

  it("leaves to the CPU what the GPU does not do, and what it refuses", async () => {
    const plugins = plugin();
    assert.equal((await quantizeWith(plugins, "cuda", "", "Q8_0")).device, "CUDA0");
    assert.ok(readFileSync(at("theirs.gguf")).equals(await byCpu("Q8_0")));
    assert.equal((await quantizeWith(plugins, "cuda", "refuses")).device, "CUDA0");
    assert.ok(readFileSync(at("theirs.gguf")).equals(await byCpu("Q4_K_M")));
  });

  it("fails when the GPU fails, and leaves what was there", async () => {
    const plugins = plugin();
    writeFileSync(at("theirs.gguf"), "before");
    for (const device of ["auto", "cuda"]) {
      const { code, message } = await quantizeWith(plugins, device, "fails");
      assert.equal(code, "BACKEND_UNAVAILABLE");
      assert.match(message!, /CUDA0 failed while quantizing .*: unspecified launch failure/);
    }
    assert.equal(readFileSync(at("theirs.gguf"), "utf8"), "before");
  });

  it("says why it was not a GPU", async () => {
    const none = at("none");
    mkdirSync(none, { recursive: true });
    const cases: [plugins: string, behavior: string, why: RegExp][] = [
      [plugin("-DNO_FUNCTIONS"), "", /not coldstart's own/],
      [plugin("-DOTHER_VERSION"), "", /not coldstart's own/],
      [plugin(), "no-room", /CUDA0: out of memory/],
    ];
    for (const [plugins, behavior, why] of cases) {
      const { device, notes } = await quantizeWith(plugins, "auto", behavior);
      assert.equal(device, "CPU");
      assert.match(notes!.join(), why);
      const { code, message } = await quantizeWith(plugins, "cuda", behavior);
      assert.equal(code, "BACKEND_UNAVAILABLE");
      assert.match(message!, why);
    }
    assert.deepEqual(await quantizeWith(none, "auto", ""), { device: "CPU", notes: [] });
    assert.match((await quantizeWith(none, "cuda", "")).message!, /no NVIDIA GPU with a CUDA backend/);
  });

  it("refuses other devices", async () => {
    copyFileSync(at("f16.gguf"), at("copy.gguf"));
    const options = { type: "Q8_0", device: "tpu" } as never;
    await assert.rejects(
      quantizeModel(at("copy.gguf"), at("x.gguf"), options),
      coldstartError("INVALID_OPTION", /device/),
    );
  });
});
