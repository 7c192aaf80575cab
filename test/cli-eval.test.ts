// `coldstart eval`, `importance` and `quantize --compare`, as built.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { compareQuantizations, evaluate, inspectGguf } from "../lib/index.js";
import { coldstartError } from "./support/errors.js";
import { root, TINY_STORIES, withModel } from "./support/models.js";
import { F16, LARGE, randomModel } from "./support/random-model.js";
import { writeStories } from "./support/stories.js";
import { temporaryFolder } from "./support/temporary-folder.js";

const main = path.join(root, "dist/cli/main.js");
const coldstart = (...args: string[]) => spawnSync(process.execPath, [main, ...args], { encoding: "utf8" });
const succeed = (...args: string[]) => {
  const { status, stdout, stderr } = coldstart(...args);
  assert.equal(status, 0, stderr);
  return stdout;
};

describe("the command line for quality", () => {
  const folder = temporaryFolder();
  let text: string;
  before(async () => {
    text = await withModel({}, (model) => writeStories(model, 6));
  });
  beforeEach(() => {
    // With the line feed that editors put at the end.
    writeFileSync(folder.path("text"), `${text}\n`);
    writeFileSync(folder.path("choices"), '{"question":"Once upon a","choices":[" fish"," time"],"answer":1}\n');
    writeFileSync(folder.path("answers"), '{"prompt":"Once upon a","answer":["time"]}\n');
  });

  it("evaluates on a text, beside a base, on choices and on answers", async () => {
    const expected = await withModel({}, (model) => evaluate(model, { type: "perplexity", text, chunkLength: 100 }));
    const table = succeed(
      "eval",
      TINY_STORIES,
      "--text",
      folder.path("text"),
      "--chunk-length",
      "100",
      "--threads",
      "1",
    );
    assert.match(
      table,
      new RegExp(
        `^perplexity +${expected.perplexity.value.toFixed(4)} +[\\d.]+ to [\\d.]+ +${expected.tokens} tokens of`,
      ),
    );

    const args = ["--text", folder.path("text"), "--quantize", "Q4_0", "--base", TINY_STORIES];
    const beside = succeed("eval", TINY_STORIES, ...args);
    // --quantize is not for the base.
    const divergence = /divergence from the base +([\d.]+)/.exec(beside);
    assert.ok(Number(divergence?.[1]) > 1e-4, beside);

    const others = succeed(
      "eval",
      TINY_STORIES,
      "--choices",
      folder.path("choices"),
      "--answers",
      folder.path("answers"),
      "-n",
      "2",
    );
    assert.match(others, /accuracy +1\.0000 .*1 questions\naccuracy by byte.*\nexact match +.*1 answers\nF1/s);

    const events = succeed("eval", TINY_STORIES, "--choices", folder.path("choices"), "--json").trim().split("\n");
    const [progress, result] = events.map((line) => JSON.parse(line) as { type: string; accuracy: { value: number } });
    assert.deepEqual([progress?.type, result?.type, result?.accuracy.value], ["progress", "result", 1]);
  });

  it("says what is missing", () => {
    assert.equal(coldstart("eval", TINY_STORIES).status, 2);
    assert.match(coldstart("eval", TINY_STORIES, "--base", TINY_STORIES).stderr, /--base is for --text/);
    assert.match(coldstart("eval", TINY_STORIES, "--text", folder.path("none")).stderr, /--text .*none cannot be read/);
    assert.equal(coldstart("importance", TINY_STORIES, folder.path("out")).status, 2);
    assert.match(coldstart("quantize", TINY_STORIES, "--compare", "Q8_0").stderr, /there is none.*--text/);
    assert.match(coldstart("quantize", TINY_STORIES, "-t", "Q8_0").stderr, /output is undefined/);
    assert.match(coldstart("quantize", TINY_STORIES, folder.path("x")).stderr, /type is undefined/);
    assert.equal(coldstart("quantize", TINY_STORIES, folder.path("x"), "-t", "Q8_0", "--svg", "y").status, 2);
  });

  it("measures importance, which quantizing uses", async () => {
    writeFileSync(folder.path("more"), text);
    const file = folder.path("importance.gguf");
    const said = succeed(
      "importance",
      TINY_STORIES,
      file,
      "--text",
      folder.path("text"),
      folder.path("more"),
      "--chunk-length",
      "64",
    );
    assert.match(said, /importance\.gguf: 28 matrices, \d+ tokens in \d+ chunks/);
    const { metadata } = await inspectGguf(file);
    assert.deepEqual((metadata["imatrix.datasets"] as { values: string[] }).values, ["text", "more"]);
    succeed("quantize", TINY_STORIES, folder.path("q.gguf"), "-t", "IQ2_XS", "-i", file);
  });

  it("compares types, as a table and a picture", () => {
    const args = ["--text", folder.path("text"), "--chunk-length", "64", "--svg", folder.path("plot.svg")];
    const lines = succeed("quantize", TINY_STORIES, "--compare", "Q8_0,Q5_0", "Q4_0", ...args)
      .trim()
      .split("\n");
    assert.deepEqual(
      lines.map((line) => line.split("  ")[0]),
      ["TYPE", "as it is", "Q8_0", "Q5_0", "Q4_0"],
    );
    const svg = readFileSync(folder.path("plot.svg"), "utf8");
    for (const type of ["Q8_0", "Q5_0", "Q4_0"]) assert.ok(svg.includes(`>${type}</text>`), type);
    assert.ok(!/NaN|Infinity/.test(svg));
  });
});

describe("compareQuantizations()", () => {
  it("says what each type saves and costs, as evaluating the models does", async () => {
    const text = await withModel({}, (model) => writeStories(model, 6));
    const seen: string[] = [];
    const fractions: number[] = [];
    const rows = await compareQuantizations(TINY_STORIES, {
      types: ["Q8_0", "Q4_0"],
      text,
      chunkLength: 64,
      load: { threads: 1 },
      onRow: ({ type }) => seen.push(type),
      onProgress: (fraction) => fractions.push(fraction),
    });
    assert.deepEqual(seen, ["none", "Q8_0", "Q4_0"]);
    assert.deepEqual(
      fractions,
      [...fractions].sort((a, b) => a - b),
    );
    assert.equal(fractions.at(-1), 1);
    await withModel({}, (base) =>
      withModel({ quantize: "Q4_0" }, async (model) => {
        const task = { type: "perplexity", text, chunkLength: 64, base } as const;
        const { perplexity, comparison } = await evaluate(model, task);
        const row = rows[2]!;
        assert.ok(Math.abs(row.perplexity.value / perplexity.value - 1) < 1e-3);
        assert.ok(Math.abs(row.divergence.value / comparison!.divergence.value - 1) < 0.05);
        assert.equal(row.bytes, model.info.weightBytes);
        assert.equal(row.bitsPerWeight, (8 * model.info.weightBytes) / model.info.parameters);
      }),
    );
    assert.ok(rows[1]!.divergence.value < rows[2]!.divergence.value);
    assert.deepEqual([rows[0]!.divergence.value, rows[0]!.topAgreement.value, rows[0]!.bitsPerWeight], [0, 1, 32]);
  });

  const folder = temporaryFolder();
  it("refuses before anything takes long", async () => {
    const file = folder.path("model.gguf");
    writeFileSync(file, randomModel({ ...LARGE, type: F16, layers: 1 }));
    const seen: string[] = [];
    const compare = (types: string[]) =>
      compareQuantizations(file, { types: types as never, text: "x", onRow: ({ type }) => seen.push(type) });
    await assert.rejects(compare([]), coldstartError("INVALID_OPTION", /types/));
    await assert.rejects(compare(["Q8_0", "Q9"]), coldstartError("INVALID_OPTION", /Q9/));
    await assert.rejects(compare(["Q8_0", "IQ1_S"]), coldstartError("INVALID_OPTION", /importance/));
    assert.deepEqual(seen, []);
    assert.ok(!existsSync(`${file}.compared`));
  });
});
