import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import {
  inspectGguf,
  loadModel,
  type GenerateOptions,
  type LoadOptions,
  type Model,
  type Prompt,
} from "../lib/index.js";
import { coldstartError } from "./support/errors.js";
import { PROMPT, TINY_STORIES, withModel } from "./support/models.js";

describe("bad input", () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
  });
  after(() => rmSync(folder, { recursive: true }));

  describe("to loadModel", () => {
    const cases: [name: string, options: Record<string, unknown>, message: RegExp][] = [
      ["an unknown option", { contextLenght: 8 }, /no option contextLenght\. Did you mean contextLength\?/],
      ["an unknown nested option", { kvCache: { type: "f16" } }, /no option kvCache\.type/],
      ["a context length of 0", { contextLength: 0 }, /contextLength is 0/],
      ["a fractional context length", { contextLength: 8.5 }, /whole number/],
      ["a context length as a string", { contextLength: "8" }, /contextLength is "8"/],
      ["a NaN of threads", { threads: NaN }, /threads is NaN/],
      ["negative layers", { gpuLayers: -1 }, /gpuLayers is -1/],
      ["layers in words", { gpuLayers: "all" }, /gpuLayers is "all"/],
      ["mlock as a number", { mlock: 1 }, /mlock is 1/],
      ["a load mode that there is not", { loadMode: "fast" }, /loadMode is "fast"/],
      ["mlock with direct reads", { loadMode: "direct", mlock: true }, /mlock is true.*loadMode is "direct"/],
      ["reading ahead with direct reads", { loadMode: "direct", prefetch: true }, /prefetch is true/],
      ["a KV type that there is not", { kvCache: { keyType: "q3_K" } }, /kvCache\.keyType is "q3_K"/],
      [
        "quantized values without flash attention",
        { flashAttention: false, kvCache: { valueType: "q8_0" } },
        /flashAttention is false/,
      ],
      ["a seed out of range", { seed: 2 ** 32 - 1 }, /seed is 4294967295/],
      ["a callback that is none", { onProgress: "yes" }, /onProgress is "yes"/],
      ["a signal that is none", { signal: {} }, /an AbortSignal/],
      ["too many sequences", { parallel: 255 }, /parallel is 255/],
    ];
    for (const [name, options, message] of cases) {
      it(`refuses ${name}`, () =>
        assert.rejects(loadModel(TINY_STORIES, options as LoadOptions), coldstartError("INVALID_OPTION", message)));
    }

    for (const bad of [undefined, null, 7, "", "a\0b", new URL("https://example.com/model.gguf")]) {
      it(`refuses the path ${String(bad).replace("\0", "\\0")}`, () =>
        assert.rejects(loadModel(bad as string), coldstartError("INVALID_OPTION", /path is/)));
    }

    it("says when there is no such file, and when it is a directory", async () => {
      await assert.rejects(
        loadModel(path.join(folder, "nothing.gguf")),
        coldstartError("MODEL_NOT_FOUND", /no file at .*nothing\.gguf/),
      );
      await assert.rejects(loadModel(folder), coldstartError("MODEL_NOT_FOUND", /is a directory/));
      await assert.rejects(inspectGguf(folder), coldstartError("MODEL_NOT_FOUND", /is a directory/));
    });

    it("says when a file is empty, is no GGUF, or is truncated anywhere", async () => {
      const file = path.join(folder, "bad.gguf");
      writeFileSync(file, "");
      await assert.rejects(loadModel(file), coldstartError("INVALID_GGUF", /only 0 bytes/));
      writeFileSync(file, "PK\x03\x04 this is a zip");
      await assert.rejects(loadModel(file), coldstartError("INVALID_GGUF", /instead of 'GGUF'/));
      const { size } = { size: readFileSync(TINY_STORIES).length };
      for (const length of [5, 12, 1000, 20_000, size - 1_000_000, size - 1]) {
        copyFileSync(TINY_STORIES, file);
        truncateSync(file, length);
        await assert.rejects(loadModel(file), coldstartError("INVALID_GGUF"), `${length} bytes`);
        await assert.rejects(inspectGguf(file), coldstartError("INVALID_GGUF"), `${length} bytes`);
      }
    });

    it("says when the version or the architecture cannot be read", async () => {
      const file = path.join(folder, "other.gguf");
      const bytes = readFileSync(TINY_STORIES);
      const version = Buffer.from(bytes);
      version.writeUInt32LE(1, 4);
      writeFileSync(file, version);
      await assert.rejects(loadModel(file), coldstartError("INVALID_GGUF", /version is 1/));

      const architecture = Buffer.from(bytes);
      const at = architecture.indexOf("llama", architecture.indexOf("general.architecture"));
      architecture.write("lhama", at);
      writeFileSync(file, architecture);
      await assert.rejects(loadModel(file), coldstartError("UNSUPPORTED_MODEL", /architecture is 'lhama'/));
      assert.equal((await inspectGguf(file)).architecture, "lhama", "it can be looked at all the same");
    });

    it("gives llama.cpp's reason when the header is sound and the model is not", async () => {
      const file = path.join(folder, "renamed.gguf");
      const bytes = readFileSync(TINY_STORIES);
      bytes.write("blk.0.attn_X.weight", bytes.indexOf("blk.0.attn_q.weight"));
      writeFileSync(file, bytes);
      await assert.rejects(loadModel(file), coldstartError("LOAD_FAILED", /blk\.0\.attn_q\.weight/));
    });

    it("says when the other parts of a split model are missing", async () => {
      await assert.rejects(loadModel(path.join(folder, "x-00001-of-00002.gguf")), coldstartError("MODEL_NOT_FOUND"));
    });
  });

  describe("to generate", () => {
    let model: Model;
    before(async () => {
      model = await loadModel(TINY_STORIES, { threads: 1 });
    });
    after(() => model.dispose());

    const cases: [name: string, options: Record<string, unknown>, message: RegExp][] = [
      ["an unknown option", { temprature: 1 }, /no option temprature\. Did you mean temperature\?/],
      ["an option that is nothing like any", { zzzzzzzzzzzz: 1 }, /no option zzzzzzzzzzzz\. Known:/],
      ["a NaN temperature", { temperature: NaN }, /temperature is NaN/],
      ["a negative temperature", { temperature: -0.1 }, /temperature is -0\.1/],
      ["an infinite temperature", { temperature: Infinity }, /temperature is Infinity/],
      ["a topP of 0", { topP: 0 }, /topP is 0\. It must be a finite number above 0 and at most 1/],
      ["a topP above 1", { topP: 1.01 }, /topP is 1\.01/],
      ["a fractional topK", { topK: 1.5 }, /topK is 1\.5/],
      ["a negative topK", { topK: -1 }, /topK is -1/],
      ["a minP above 1", { minP: 2 }, /minP is 2/],
      ["a maxTokens of 0", { maxTokens: 0 }, /maxTokens is 0/],
      ["a seed below 0", { seed: -1 }, /seed is -1/],
      ["an xtc probability above 1", { xtc: { probability: 2 } }, /xtc\.probability is 2/],
      ["a misspelt xtc option", { xtc: { treshold: 1 } }, /xtc\.treshold\. Did you mean xtc\.threshold\?/],
      ["a mirostat version 3", { mirostat: { version: 3 } }, /mirostat\.version is 3/],
      ["a repeatPenalty of 0", { repeatPenalty: 0 }, /repeatPenalty is 0/],
      ["a stop string that is empty", { stop: ["a", ""] }, /stop is ""/],
      ["a stop that is a number", { stop: 5 }, /stop is 5/],
      ["a logitBias that is NaN", { logitBias: { 5: NaN } }, /logitBias\[5\] is NaN/],
      ["a logitBias for a word", { logitBias: { the: 1 } }, /A key of logitBias is "the"/],
      [
        "a logitBias beyond the vocabulary",
        { logitBias: { 640: 1 } },
        /Token 640 is not of this model's vocabulary of 640/,
      ],
      ["too many logprobs", { logprobs: 101 }, /logprobs is 101/],
      ["a signal that is none", { signal: "stop" }, /an AbortSignal/],
      ["options that are no object", 5 as unknown as Record<string, unknown>, /options is 5/],
    ];
    for (const [name, options, message] of cases) {
      it(`refuses ${name}`, () => {
        assert.throws(
          () => model.generate(PROMPT, options as GenerateOptions),
          coldstartError("INVALID_OPTION", message),
        );
      });
    }

    for (const bad of [
      "",
      [],
      [1.5],
      [-1],
      [""],
      ["a", 7],
      undefined,
      5,
      { length: 1 },
      [640],
      Int32Array.of(-1),
      [2 ** 31],
    ]) {
      it(`refuses the prompt ${JSON.stringify(bad)}`, () => {
        assert.throws(() => model.generate(bad as Prompt), coldstartError("INVALID_OPTION"));
      });
    }

    it("refuses what does not fit the context, before anything is computed", async () => {
      const long = Array.from({ length: 256 }, () => 300);
      await assert.rejects(
        model.generate(long).result,
        coldstartError("CONTEXT_OVERFLOW", /256 tokens, and the context length is 256/),
      );
      const error = coldstartError("CONTEXT_OVERFLOW", /7 tokens and maxTokens is 250, and the context length is 256/);
      await assert.rejects(model.generate(PROMPT, { maxTokens: 250 }).result, error);
      const { usage } = await model.generate(PROMPT, { maxTokens: 249, temperature: 0 }).result;
      assert.equal(usage.promptTokens, 7, "249 fit");
      await assert.rejects(model.generate("word ".repeat(100_000)).text(), coldstartError("CONTEXT_OVERFLOW"));
    });

    it("throws in the loop that reads a generation that fails", async () => {
      const read = async () => {
        for await (const _chunk of model.generate(PROMPT, { maxTokens: 250 }));
      };
      await assert.rejects(read(), coldstartError("CONTEXT_OVERFLOW"));
    });

    it("does not disturb the others when one fails", async () => {
      const good = model.generate(PROMPT, { temperature: 0, maxTokens: 50 });
      await assert.rejects(model.generate(PROMPT, { maxTokens: 250 }).result);
      await assert.rejects(model.generate(PROMPT, { grammar: "nonsense" }).result);
      assert.equal((await good.result).tokens.length, 50);
    });

    it("keeps text with zero bytes and lone surrogates harmless", async () => {
      assert.ok((await model.tokenize("a\0b")).length > 3);
      assert.equal((await model.generate("\uD800 a\0b", { maxTokens: 2 }).result).tokens.length, 2);
    });

    it("refuses tokens that are none", async () => {
      await assert.rejects(model.detokenize([640]), coldstartError("INVALID_OPTION", /Token 640/));
      await assert.rejects(model.detokenize("abc" as unknown as number[]), coldstartError("INVALID_OPTION"));
      await assert.rejects(model.tokenize(5 as unknown as string), coldstartError("INVALID_OPTION"));
    });
  });

  describe("after dispose", () => {
    it("everything is refused, and disposing again is fine", async () => {
      const model = await loadModel(TINY_STORIES);
      assert.equal(model.disposed, false);
      await model.dispose();
      assert.equal(model.disposed, true);
      assert.throws(() => model.generate(PROMPT), coldstartError("DISPOSED"));
      await assert.rejects(model.tokenize("a"), coldstartError("DISPOSED"));
      await assert.rejects(model.detokenize([5]), coldstartError("DISPOSED"));
      await model.dispose();
    });

    it("generations under way, waiting and being tokenized fail", async () => {
      await withModel({ parallel: 1 }, async (model) => {
        const running = model.generate(PROMPT, { logitBias: { 2: -Infinity } });
        await running[Symbol.asyncIterator]().next();
        const waiting = model.generate(PROMPT);
        const results = [running, waiting, model.generate("word ".repeat(200_000))].map(({ result }) =>
          assert.rejects(result, coldstartError("DISPOSED")),
        );
        await Promise.all([model.dispose(), model.dispose(), ...results]);
      });
    });
  });
});
