// Quantizing while loading beside loading a file that was quantized before.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import {
  inspectGguf,
  loadModel,
  planModel,
  quantizeModel,
  type LoadOptions,
  type Model,
  type Plan,
} from "../lib/index.js";
import { coldstartError } from "./support/errors.js";
import { root, withModel } from "./support/models.js";
import { F16, randomModel, type Shape } from "./support/random-model.js";
import { splitInTwo } from "./support/split-in-two.js";

const SHAPE: Shape = {
  type: F16,
  vocabulary: 512,
  width: 256,
  feedForward: 512,
  layers: 4,
  heads: 4,
  keyValueHeads: 2,
  contextLength: 256,
  tied: false,
};
const MODELS: Readonly<Record<string, Shape>> = {
  dense: SHAPE,
  tied: { ...SHAPE, tied: true },
  experts: { ...SHAPE, layers: 2, experts: { count: 4, used: 2 } },
};

describe("loadModel with quantize", function () {
  this.timeout(60_000);
  let folder: string;
  const at = (name: string) => path.join(folder, name);
  before(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
    for (const [name, shape] of Object.entries(MODELS)) writeFileSync(at(`${name}.gguf`), randomModel(shape));
  });
  after(() => rmSync(folder, { recursive: true }));

  const prompt = Array.from({ length: 40 }, (_, i) => 300 + ((i * 7919) % 200));
  const generate = async (model: Model) => {
    const { tokens, logprobs } = await model.generate(prompt, { maxTokens: 24, temperature: 0, logprobs: 5 }).result;
    return { tokens, logprobs };
  };
  /** What the file that quantizeModel() writes says. */
  const ofFile = async (name: string, type: "Q4_K_M" | "Q8_0" | "IQ4_NL", load: LoadOptions = {}) => {
    await quantizeModel(at(`${name}.gguf`), at("written.gguf"), { type });
    return withModel({ path: at("written.gguf"), ...load }, async (model) => ({
      generated: await generate(model),
      info: model.info,
      weights: model.placement.devices.map(({ weights }) => weights),
    }));
  };

  for (const name of Object.keys(MODELS)) {
    for (const type of ["Q4_K_M", "Q8_0", "IQ4_NL"] as const) {
      it(`${type}, ${name}: is the model of the quantized file, bit by bit`, async () => {
        const expected = await ofFile(name, type);
        await withModel({ path: at(`${name}.gguf`), quantize: type }, async (model) => {
          assert.deepEqual(await generate(model), expected.generated);
          assert.equal(model.info.quantization, expected.info.quantization);
          assert.equal(model.info.weightBytes, expected.info.weightBytes);
          assert.equal(model.info.parameters, expected.info.parameters);
          assert.deepEqual(model.placement.notes, []);
          assert.equal(model.placement.loadMode, "copy");
        });
        const plan = await planModel(at(`${name}.gguf`), { quantize: type, threads: 1 });
        const planned = await planModel(at("written.gguf"), { loadMode: "copy", threads: 1 });
        const demand = ({ devices }: Plan) => devices.map((device) => ({ ...device, free: 0 }));
        assert.deepEqual(demand(plan), demand(planned));
        assert.deepEqual(
          plan.devices.map(({ weights }) => weights),
          await withModel({ path: at("written.gguf"), loadMode: "copy" }, (model) =>
            Promise.resolve(model.placement.devices.map(({ weights }) => weights)),
          ),
        );
      });
    }
  }

  it("takes whole recipes, split files, several threads, a process of its own, and reports progress", async () => {
    const expected = await ofFile("dense", "Q4_K_M");
    splitInTwo(at("dense.gguf"), at("split"));
    const seen: number[] = [];
    const onProgress = (fraction: number) => seen.push(fraction);
    for (const options of [
      { quantize: { type: "Q4_K_M" }, threads: 3 },
      { path: at("split-00001-of-00002.gguf"), quantize: "Q4_K_M", mlock: true },
      { quantize: "Q4_K_M", isolation: "process", onProgress },
    ] as const) {
      await withModel({ path: at("dense.gguf"), ...options }, async (model) => {
        assert.deepEqual(await generate(model), expected.generated);
      });
    }
    assert.deepEqual(
      seen,
      seen.toSorted((a, b) => a - b),
    );
    assert.ok(seen.every((fraction) => fraction >= 0 && fraction <= 1));
    await withModel({ path: at("dense.gguf"), quantize: { type: "Q4_K_M", pure: true } }, async (model) => {
      assert.notEqual(model.info.weightBytes, expected.info.weightBytes);
      assert.equal((await generate(model)).tokens!.length, 24);
    });
  });

  it("keeps the result where it is told to, and takes it from there", async () => {
    const expected = await ofFile("dense", "Q4_K_M");
    const cache = at("cache");
    const load = { path: at("dense.gguf"), quantize: "Q4_K_M", quantizeCache: cache } as const;
    const seen: number[] = [];
    await withModel({ ...load, onProgress: (fraction) => seen.push(fraction) }, async (model) => {
      assert.deepEqual(await generate(model), expected.generated);
      assert.equal(path.dirname(model.info.path), cache);
    });
    assert.deepEqual(
      seen,
      seen.toSorted((a, b) => a - b),
    );
    const [kept, ...others] = readdirSync(cache);
    assert.deepEqual(others, []);
    assert.match(kept!, /^dense\.Q4_K_M\.[0-9a-f]{16}\.gguf$/);
    assert.ok(readFileSync(path.join(cache, kept!)).equals(readFileSync(at("written.gguf"))));
    const { mtimeMs } = statSync(path.join(cache, kept!));
    await withModel(load, async (model) => assert.deepEqual(await generate(model), expected.generated));
    assert.equal(statSync(path.join(cache, kept!)).mtimeMs, mtimeMs);
    // Another recipe, and another file of the same name, are others.
    await withModel({ ...load, quantize: "Q8_0" }, () => Promise.resolve());
    writeFileSync(at("dense.gguf"), randomModel({ ...SHAPE, layers: 3 }));
    assert.equal(await withModel(load, (model) => Promise.resolve(model.info.layers)), 3);
    writeFileSync(at("dense.gguf"), randomModel(SHAPE));
    assert.equal(readdirSync(cache).length, 3);
  });

  it("does without where nothing can be kept, and says so", async () => {
    writeFileSync(at("no-folder"), "");
    const load = { quantize: "Q8_0", quantizeCache: at("no-folder"), threads: 1 } as const;
    const warning = new Promise<Error>((resolve) => process.once("warning", resolve));
    await withModel({ path: at("dense.gguf"), ...load }, (model) => {
      assert.match(model.placement.notes.join(), /What was quantized is not kept: .*cannot be written/);
      assert.equal(model.info.quantization, "Q8_0");
      return Promise.resolve();
    });
    assert.match((await warning).message, /not kept/);
    await assert.rejects(loadModel(at("dense.gguf"), { ...load, strict: true }), coldstartError("WRITE_FAILED"));
  });

  it("does not take a session of another recipe", async () => {
    const save = (options: LoadOptions) =>
      withModel({ path: at("dense.gguf"), ...options }, async (model) => {
        const session = model.session();
        await session.append(prompt);
        return session.snapshot();
      });
    const restore = (options: LoadOptions, snapshot: Uint8Array) =>
      withModel({ path: at("dense.gguf"), ...options }, (model) => model.session().restore(snapshot));
    const snapshot = await save({ quantize: "Q4_K_M" });
    await restore({ quantize: "Q4_K_M" }, snapshot);
    await assert.rejects(restore({ quantize: "Q8_0" }, snapshot), coldstartError("INVALID_SNAPSHOT"));
    await assert.rejects(restore({}, snapshot), coldstartError("INVALID_SNAPSHOT"));
  });

  it("refuses what cannot be", async () => {
    const refuses = (options: object, code: Parameters<typeof coldstartError>[0], message: RegExp) =>
      assert.rejects(loadModel(at("dense.gguf"), options), coldstartError(code, message));
    await refuses({ quantize: "Q4" }, "INVALID_OPTION", /quantize is "Q4".*Q4_K_M/);
    await refuses({ quantize: { type: "Q4" } }, "INVALID_OPTION", /quantize\.type is "Q4"/);
    await refuses({ quantize: { type: "Q8_0", keepSplit: true } }, "INVALID_OPTION", /no option quantize\.keepSplit/);
    await refuses({ quantize: "Q8_0", loadMode: "mmap" }, "INVALID_OPTION", /loadMode is "mmap"/);
    await refuses({ quantizeCache: true }, "INVALID_OPTION", /false without quantize/);
    await refuses({ quantize: "IQ2_XXS" }, "INVALID_OPTION", /which weights matter/);
    await refuses({ quantize: "Q8_0", signal: AbortSignal.abort() }, "ABORTED", /./);
    const abort = new AbortController();
    await refuses(
      { quantize: "IQ4_NL", threads: 1, signal: abort.signal, onProgress: () => abort.abort() },
      "ABORTED",
      /./,
    );
    const { tensors, dataOffset } = await inspectGguf(at("dense.gguf"), { arrayLimit: 0 });
    const damaged = readFileSync(at("dense.gguf"));
    damaged.writeUInt16LE(0x7e00, dataOffset + tensors.at(-1)!.offset + 1000);
    writeFileSync(at("damaged.gguf"), damaged);
    const damage = loadModel(at("damaged.gguf"), { quantize: "Q4_K_M" });
    await assert.rejects(damage, coldstartError("INVALID_GGUF", /NaN or infinite/));
  });

  it("is an option of coldstart run and coldstart plan, and coldstart quantize writes files", () => {
    const coldstart = (...parameters: string[]) =>
      spawnSync(process.execPath, ["--import", "tsx", path.join(root, "lib/cli/main.ts"), ...parameters], {
        encoding: "utf8",
        cwd: root,
      });
    const run = coldstart("run", at("dense.gguf"), "--quantize", "Q4_K_M", "-p", "a b", "-n", "4", "--seed", "1", "-q");
    assert.equal(run.status, 0, run.stderr);
    const plan = coldstart("plan", at("dense.gguf"), "--quantize", "Q4_K_M");
    assert.equal(plan.status, 0, plan.stderr);
    const dry = coldstart("quantize", at("dense.gguf"), folder, "-t", "Q4_K_M", "--dry-run");
    assert.match(dry.stdout, /dense-Q4_K_M\.gguf would be: .* bits per weight\n {2}q/);
    const types = ["--tensor-type", "ffn_down=q8_0", "attn_v=f16"];
    const quantize = coldstart("quantize", at("dense.gguf"), at("cli.gguf"), "-t", "Q4_K_M", ...types, "--json");
    assert.equal(quantize.status, 0, quantize.stderr);
    const { tensors } = JSON.parse(quantize.stdout) as { tensors: { name: string; to: string }[] };
    assert.equal(tensors.find(({ name }) => name === "blk.0.ffn_down.weight")?.to, "q8_0");
    assert.equal(tensors.find(({ name }) => name === "blk.0.attn_v.weight")?.to, "f16");
    const wrong = coldstart("quantize", at("dense.gguf"), at("cli.gguf"), "-t", "Q5");
    assert.equal(wrong.status, 2);
  });
});
