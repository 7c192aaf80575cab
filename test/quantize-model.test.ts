// Quantized files beside those of llama_model_quantize(), which is all that llama-quantize does, byte by byte.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import os from "node:os";
import path from "node:path";
import { inspectGguf, quantizeModel, type QuantizationType, type QuantizeOptions } from "../lib/index.js";
import { native } from "../lib/native.js";
import { QUANTIZATION_TYPES } from "../lib/quantization/types.js";
import { testing } from "./native/testing-addon.js";
import { coldstartError } from "./support/errors.js";
import { writeGguf } from "./support/gguf-writer.js";
import { root, TINY_STORIES } from "./support/models.js";
import { BF16, F16, F32, Q4_0, Q8_0, randomModel, type Shape } from "./support/random-model.js";
import { splitInTwo } from "./support/split-in-two.js";

/** llama.h: enum llama_ftype */
const FILE_TYPES: Readonly<Record<QuantizationType, number>> = {
  F32: 0, F16: 1, Q4_0: 2, Q4_1: 3, Q8_0: 7, Q5_0: 8, Q5_1: 9, Q2_K: 10, Q3_K_S: 11, Q3_K_M: 12, Q3_K: 12, Q3_K_L: 13,
  Q4_K_S: 14, Q4_K_M: 15, Q4_K: 15, Q5_K_S: 16, Q5_K_M: 17, Q5_K: 17, Q6_K: 18, IQ2_XXS: 19, IQ2_XS: 20, Q2_K_S: 21,
  IQ3_XS: 22, IQ3_XXS: 23, IQ1_S: 24, IQ4_NL: 25, IQ3_S: 26, IQ3_M: 27, IQ2_S: 28, IQ2_M: 29, IQ4_XS: 30, IQ1_M: 31,
  BF16: 32, TQ1_0: 36, TQ2_0: 37, MXFP4_MOE: 38, Q1_0: 40, Q2_0: 41,
}; // prettier-ignore

const NEED_IMPORTANCE: readonly QuantizationType[] = ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "Q2_K_S"]; // prettier-ignore

const SHAPE: Shape = {
  type: F16,
  vocabulary: 288,
  width: 256,
  feedForward: 256,
  layers: 9, // so that the mixtures' first and last eighths are not empty
  heads: 8,
  keyValueHeads: 2,
  contextLength: 128,
  tied: false,
};
const EXPERTS: Shape = { ...SHAPE, layers: 2, tied: true, experts: { count: 8, used: 2 } };

describe("quantizeModel", function () {
  this.timeout(120_000);
  let folder: string;
  const at = (name: string) => path.join(folder, name);
  before(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
    writeFileSync(at("f16.gguf"), randomModel(SHAPE));
    writeFileSync(at("f32.gguf"), randomModel({ ...SHAPE, type: F32, layers: 2 }));
    writeFileSync(at("bf16.gguf"), randomModel({ ...SHAPE, type: BF16, layers: 2 }));
    writeFileSync(at("q8_0.gguf"), randomModel({ ...SHAPE, type: Q8_0, layers: 2 }));
    writeFileSync(at("q4_0.gguf"), randomModel({ ...SHAPE, type: Q4_0, layers: 2 }));
    writeFileSync(at("experts.gguf"), randomModel(EXPERTS));
    // Rows that no super-block fits, and some that not even a block of 32 fits.
    writeFileSync(at("narrow.gguf"), randomModel({ ...SHAPE, layers: 2, width: 96, feedForward: 200, heads: 4 }));
  });
  after(() => rmSync(folder, { recursive: true }));
  afterEach(() => {
    for (const name of readdirSync(folder)) if (/^(mine|theirs)|partial/.test(name)) rmSync(at(name));
  });

  /** The same file by coldstart and by llama.cpp. */
  async function compare(
    input: string,
    options: QuantizeOptions,
    importance?: { path: string; matrices: Record<string, Float32Array> },
  ): Promise<void> {
    const mine = await quantizeModel(input, at("mine.gguf"), {
      ...options,
      ...(importance && { importanceMatrix: importance.path }),
    });
    const { type, tensorTypes, ...rest } = options;
    testing.llamaQuantize(input, at("theirs.gguf"), {
      ...rest,
      fileType: FILE_TYPES[type],
      ...(tensorTypes && { tensorTypes: tensorTypes.map((one) => ({ ...one, pattern: String(one.pattern) })) }),
      ...(importance && { importance: importance.matrices }),
    });
    const [a, b] = [readFileSync(at("mine.gguf")), readFileSync(at("theirs.gguf"))];
    assert.equal(mine.files[0]!.bytes, a.length);
    if (!importance) {
      assert.ok(a.equals(b), `${type} of ${path.basename(input)}`);
      return;
    }
    // Here the metadata also say where the importance is from: llama-quantize adds that itself.
    const [x, y] = await Promise.all([inspectGguf(at("mine.gguf")), inspectGguf(at("theirs.gguf"))]);
    assert.deepEqual(x.tensors, y.tensors);
    assert.ok(a.subarray(x.dataOffset).equals(b.subarray(y.dataOffset)), `${type} with importance`);
  }

  it("knows the types of llama-quantize", () => {
    assert.deepEqual([...QUANTIZATION_TYPES].sort(), native().fileTypes().sort());
    assert.deepEqual([...QUANTIZATION_TYPES].sort(), Object.keys(FILE_TYPES).sort());
  });

  for (const type of QUANTIZATION_TYPES.filter((name) => !NEED_IMPORTANCE.includes(name))) {
    it(`${type}: every byte is llama-quantize's, of dense models and of experts`, async () => {
      await compare(at("f16.gguf"), { type });
      await compare(at("experts.gguf"), { type });
    });
  }

  for (const type of ["Q4_K_M", "Q6_K", "Q8_0", "Q2_K", "IQ4_XS"] as const) {
    it(`${type}: likewise from F32, BF16 and Q8_0, and with rows that no block fits`, async () => {
      for (const name of ["f32", "bf16", "q8_0", "narrow"]) await compare(at(`${name}.gguf`), { type });
      await compare(TINY_STORIES, { type });
    });
  }

  it("takes a recipe as llama-quantize does", async () => {
    await compare(at("f16.gguf"), { type: "Q4_K_M", pure: true });
    await compare(at("f16.gguf"), { type: "Q4_K_M", leaveOutputTensor: true });
    await compare(at("f16.gguf"), { type: "Q4_K_M", outputTensorType: "q8_0", tokenEmbeddingType: "q5_K" });
    await compare(at("f16.gguf"), {
      type: "Q4_K_M",
      tensorTypes: [
        { pattern: "ffn_down", type: "q8_0" },
        { pattern: String.raw`blk\.[0-3]\.attn`, type: "iq4_nl" },
      ],
    });
    await compare(at("q4_0.gguf"), { type: "Q8_0", allowRequantize: true });
    await compare(at("f16.gguf"), { type: "Q5_K_M", threads: 5 });
  });

  it("heeds an importance matrix as llama-quantize does, in every type", async () => {
    const importance = await randomImportance(at("f16.gguf"), at("importance.gguf"));
    for (const type of QUANTIZATION_TYPES) await compare(at("f16.gguf"), { type }, importance);
    const { metadata } = await inspectGguf(at("mine.gguf"));
    assert.equal(metadata["quantize.imatrix.file"], at("importance.gguf"));
    assert.equal(metadata["quantize.imatrix.dataset"], "some text");
    assert.equal(metadata["quantize.imatrix.chunks_count"], 7);
    const ofExperts = await randomImportance(at("experts.gguf"), at("of-experts.gguf"));
    for (const type of ["Q4_K_M", "Q5_0", "Q2_K", "Q3_K_M", "Q6_K", "IQ2_XXS", "IQ4_NL"] as const) {
      await compare(at("experts.gguf"), { type }, ofExperts);
    }
  });

  it("says what it would write, and what it wrote", async () => {
    const options: QuantizeOptions = { type: "Q4_K_M" };
    const planned = await quantizeModel(at("f16.gguf"), at("mine.gguf"), { ...options, dryRun: true });
    assert.ok(!existsSync(at("mine.gguf")));
    const seen: number[] = [];
    const written = await quantizeModel(at("f16.gguf"), at("mine.gguf"), {
      ...options,
      onProgress: (x) => seen.push(x),
    });
    assert.deepEqual(written, { ...planned, device: "CPU" });
    const info = await inspectGguf(at("mine.gguf"));
    assert.equal(info.quantization, "Q4_K - Medium");
    assert.equal(written.parameters, info.parameters);
    assert.equal(written.bytes, info.weightBytes);
    assert.equal(written.bitsPerWeight, (8 * info.weightBytes) / info.parameters);
    assert.equal(seen.at(-1), 1);
    assert.deepEqual(
      seen,
      seen.toSorted((a, b) => a - b),
    );
  });

  it("reads split models, and writes them where asked to", async () => {
    splitInTwo(at("f16.gguf"), at("whole"));
    await compare(at("whole-00001-of-00002.gguf"), { type: "Q4_K_M" });
    const result = await quantizeModel(at("whole-00001-of-00002.gguf"), at("mine"), {
      type: "Q4_K_M",
      keepSplit: true,
    });
    testing.llamaQuantize(at("whole-00001-of-00002.gguf"), at("theirs"), {
      fileType: FILE_TYPES.Q4_K_M,
      keepSplit: true,
    });
    for (const [i, { path: file }] of result.files.entries()) {
      const part = `-0000${i + 1}-of-00002.gguf`;
      assert.equal(file, at(`mine${part}`));
      assert.ok(readFileSync(file).equals(readFileSync(at(`theirs${part}`))), part);
    }
  });

  it("replaces a file, but not the one it reads", async () => {
    writeFileSync(at("mine.gguf"), "old");
    await quantizeModel(at("f16.gguf"), at("mine.gguf"), { type: "Q8_0" });
    assert.ok(statSync(at("mine.gguf")).size > 1000);
    const before = readFileSync(at("mine.gguf"));
    const again = quantizeModel(at("mine.gguf"), at("mine.gguf"), { type: "Q4_K_M" });
    await assert.rejects(again, coldstartError("INVALID_OPTION", /output is/));
    assert.ok(readFileSync(at("mine.gguf")).equals(before));
  });

  it("leaves nothing behind when it is aborted, or its caller fails", async () => {
    writeFileSync(at("mine.gguf"), "old");
    const abort = new AbortController();
    const quantizing = quantizeModel(at("f16.gguf"), at("mine.gguf"), {
      type: "IQ4_XS",
      threads: 1,
      signal: abort.signal,
      onProgress: () => abort.abort(new Error("enough")),
    });
    await assert.rejects(quantizing, coldstartError("ABORTED"));
    const failing = quantizeModel(at("f16.gguf"), at("mine.gguf"), {
      type: "Q8_0",
      onProgress: () => {
        throw new TypeError("mine");
      },
    });
    await assert.rejects(failing, TypeError);
    const late = quantizeModel(at("f16.gguf"), at("mine.gguf"), { type: "Q8_0", signal: AbortSignal.abort() });
    await assert.rejects(late, coldstartError("ABORTED"));
    assert.equal(readFileSync(at("mine.gguf"), "utf8"), "old");
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.includes("partial")),
      [],
    );
  });

  it("refuses what cannot be, saying what and why", async () => {
    const refuses = (input: string, options: object, code: Parameters<typeof coldstartError>[0], message: RegExp) =>
      assert.rejects(quantizeModel(input, at("mine.gguf"), options as QuantizeOptions), coldstartError(code, message));
    const f16 = at("f16.gguf");
    await refuses(f16, { type: "Q4_X" }, "INVALID_OPTION", /type is "Q4_X"/);
    await refuses(f16, { type: "Q4_K_M", tensorType: [] }, "INVALID_OPTION", /Did you mean tensorTypes/);
    await refuses(f16, { type: "Q4_K_M", outputTensorType: "q9" }, "INVALID_OPTION", /outputTensorType is q9/);
    await refuses(f16, { type: "Q4_K_M", outputTensorType: "i32" }, "INVALID_OPTION", /weights cannot have/);
    await refuses(
      f16,
      { type: "Q4_K_M", tensorTypes: [{ pattern: "(", type: "q8_0" }] },
      "INVALID_OPTION",
      /pattern \(/,
    );
    await refuses(
      at("narrow.gguf"),
      { type: "Q4_K_M", tokenEmbeddingType: "q4_K" },
      "INVALID_OPTION",
      /multiples of 256/,
    );
    await refuses(at("q4_0.gguf"), { type: "Q8_0" }, "INVALID_OPTION", /quantized already, as q4_0.*allowRequantize/);
    for (const type of NEED_IMPORTANCE) await refuses(f16, { type }, "INVALID_OPTION", /which weights matter/);
    await refuses(f16, { type: "Q8_0", tokenEmbeddingType: "iq2_xxs" }, "INVALID_OPTION", /which weights matter/);
    await refuses(f16, { type: "Q8_0", importanceMatrix: f16 }, "INVALID_GGUF", /no importance matrix/);
    await refuses(f16, { type: "Q8_0", importanceMatrix: at("none.gguf") }, "MODEL_NOT_FOUND", /none\.gguf/);
    const foreign = await randomImportance(at("narrow.gguf"), at("foreign.gguf"));
    await refuses(f16, { type: "Q4_K_M", importanceMatrix: foreign.path }, "INVALID_OPTION", /numbers for output/);
    await refuses(at("none.gguf"), { type: "Q8_0" }, "MODEL_NOT_FOUND", /none\.gguf/);
    writeFileSync(at("cut.gguf"), readFileSync(f16).subarray(0, 1_000_000));
    await refuses(at("cut.gguf"), { type: "Q8_0" }, "INVALID_GGUF", /./);
    await assert.rejects(
      quantizeModel(f16, at("no/such/folder.gguf"), { type: "Q8_0" }),
      coldstartError("WRITE_FAILED", /cannot be written/),
    );
  });

  it("refuses weights that are NaN, infinite, or out of a type's range, wherever they are", async () => {
    for (const [name, damage, code, message] of [
      ["f16", (view: DataView, at: number) => view.setUint16(at, 0x7e00, true), "INVALID_GGUF", /NaN or infinite/],
      ["f16", (view: DataView, at: number) => view.setUint16(at, 0xfc00, true), "INVALID_GGUF", /NaN or infinite/],
      ["f32", (view: DataView, at: number) => view.setFloat32(at, NaN, true), "INVALID_GGUF", /NaN or infinite/],
      ["f32", (view: DataView, at: number) => view.setFloat32(at, 1e10, true), "NUMERIC_ERROR", /range of q/],
      ["f32", (view: DataView, at: number) => view.setFloat32(at, -1e30, true), "NUMERIC_ERROR", /range of q/],
      ["bf16", (view: DataView, at: number) => view.setUint16(at, 0x7f80, true), "INVALID_GGUF", /NaN or infinite/],
      ["q8_0", (view: DataView, at: number) => view.setUint16(at, 0x7e00, true), "INVALID_GGUF", /NaN or infinite/],
    ] as const) {
      const { tensors, dataOffset } = await inspectGguf(at(`${name}.gguf`), { arrayLimit: 0 });
      for (const tensor of ["token_embd.weight", "blk.1.ffn_down.weight"]) {
        const { offset, bytes } = tensors.find((one) => one.name === tensor)!;
        const file = readFileSync(at(`${name}.gguf`));
        // Of Q8_0 a block's scale.
        damage(new DataView(file.buffer, file.byteOffset), dataOffset + offset + 68 * Math.floor(bytes / 136));
        writeFileSync(at("damaged.gguf"), file);
        const quantizing = quantizeModel(at("damaged.gguf"), at("mine.gguf"), { type: "Q4_K_M" });
        await assert.rejects(quantizing, coldstartError(code, new RegExp(`${tensor}.*${message.source}`)), name);
      }
    }
    assert.deepEqual(
      readdirSync(folder).filter((name) => /mine|partial/.test(name)),
      [],
    );
  });

  it("says so when the disk is full, before it begins", function () {
    // A file system of one megabyte, in a name space of its own.
    const disk = at("disk");
    const script = `mkdir -p ${disk} && mount -t tmpfs -o size=1m tmpfs ${disk} && exec "$@"`;
    const command = [process.execPath, "--import", "tsx", path.join(root, "lib/cli/main.ts")];
    const inside = (...rest: string[]) =>
      spawnSync("unshare", ["--map-root-user", "--mount", "sh", "-c", script, "sh", ...rest], {
        encoding: "utf8",
        cwd: root,
      });
    if (inside("true").status !== 0) this.skip();
    const { status, stderr } = inside(
      ...command,
      "quantize",
      at("f16.gguf"),
      path.join(disk, "out.gguf"),
      "-t",
      "Q8_0",
    );
    assert.match(stderr, /cannot be written: No space left on device.*WRITE_FAILED/);
    assert.equal(status, 1);
  });

  it("notices a source that becomes shorter", async () => {
    writeFileSync(at("shrinking.gguf"), readFileSync(at("f16.gguf")));
    const quantizing = quantizeModel(at("shrinking.gguf"), at("mine.gguf"), {
      type: "IQ4_XS",
      threads: 1,
      onProgress: () => truncateSync(at("shrinking.gguf"), 100_000),
    });
    await assert.rejects(quantizing, coldstartError("LOAD_FAILED", /became shorter/));
  });
});

/** A matrix that says something of every tensor of a model, and what it says. */
async function randomImportance(
  model: string,
  file: string,
): Promise<{ path: string; matrices: Record<string, Float32Array> }> {
  const { tensors } = await inspectGguf(model, { arrayLimit: 0 });
  const matrices: Record<string, Float32Array> = {};
  let state = 1;
  const random = () => (state = (state * 48271) % 2147483647) / 2147483647;
  const written = tensors
    .filter(({ name, shape }) => shape.length > 1 && name !== "token_embd.weight")
    .flatMap(({ name, shape: [columns = 1, , experts = 1] }) => {
      // Of the last expert nothing is known.
      const counts = Float32Array.from({ length: experts }, (_, i) => (i > 0 && i === experts - 1 ? 0 : 3 + i));
      const sums = Float32Array.from({ length: columns * experts }, () => random() * 10);
      matrices[name] = sums.map((sum, i) => {
        const count = counts[Math.floor(i / columns)]!;
        return count === 0 ? 1 : Math.fround(sum / count);
      });
      const bytes = (values: Float32Array) => new Uint8Array(values.buffer);
      return [
        { name: `${name}.in_sum2`, type: 0, shape: [columns, experts], data: bytes(sums) },
        { name: `${name}.counts`, type: 0, shape: [1, experts], data: bytes(counts) },
      ];
    });
  writeFileSync(
    file,
    writeGguf({
      metadata: [
        { key: "general.type", type: "string", value: "imatrix" },
        { key: "imatrix.datasets", type: "array", elementType: "string", values: ["some text"] },
        { key: "imatrix.chunk_count", type: "uint32", value: 7 },
        { key: "imatrix.chunk_size", type: "uint32", value: 512 },
      ],
      tensors: written,
    }),
  );
  return { path: file, matrices };
}
