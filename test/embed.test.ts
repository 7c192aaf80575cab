// Embeddings and rankings. What they are is asked of llama-embedding of the same release.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import fc from "fast-check";
import { loadModel, planModel, type Embeddings, type Model } from "../lib/index.js";
import { TINY_ENCODER, randomEncoder } from "./support/embedding-model.js";
import { coldstartError } from "./support/errors.js";
import { runTool } from "./support/llama-tools.js";
import { TINY_STORIES } from "./support/models.js";
import { randomModelOf } from "./support/random-model.js";
import { temporaryFolder } from "./support/temporary-folder.js";

const TEXTS = [
  "the girl and her dog went to play",
  "once upon a time",
  "they",
  "was the boy happy with his friend? the house, the dog, the time.",
  "a b c d e f g",
  "hello world 123",
];

/** llama-embedding's vectors, normalized as it does by default. */
async function reference(file: string, texts: string[], args: string[] = []): Promise<number[][]> {
  for (let attempt = 0; ; attempt++) {
    const output = await runTool(
      "llama-embedding",
      ["-m", file, "-p", texts.join("\n"), "--embd-output-format", "json", "-t", "1", "--no-warmup", ...args],
      /\]\s*\}/,
    );
    const json = output.slice(output.indexOf('{\n  "object"'), output.lastIndexOf("}") + 1);
    try {
      return (JSON.parse(json) as { data: { embedding: number[] }[] }).data.map(({ embedding }) => embedding);
    } catch (error) {
      // Its log loses a piece now and then.
      if (attempt === 20) throw error;
    }
  }
}

function assertClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number, what = ""): void {
  assert.equal(actual.length, expected.length, what);
  for (let i = 0; i < expected.length; i++) {
    const [a, b] = [actual[i] as number, expected[i] as number];
    assert.ok(Math.abs(a - b) <= tolerance, `${what}[${i}]: ${a}, ${b}`);
  }
}

describe("embeddings", function () {
  this.timeout(60_000);
  const folder = temporaryFolder();
  const encoder = (pooling: number | undefined, changes = {}) => {
    const file = folder.path(`encoder-${pooling}.gguf`);
    writeFileSync(file, randomEncoder({ ...TINY_ENCODER, pooling, ...changes }));
    return file;
  };
  const withFile = async <T>(file: string, body: (model: Model) => Promise<T>, options = {}): Promise<T> => {
    const model = await loadModel(file, { threads: 1, ...options });
    try {
      return await body(model);
    } finally {
      await model.dispose();
    }
  };

  for (const [name, pooling] of [
    ["mean", 1],
    ["cls", 2],
  ] as const) {
    it(`of an encoder with ${name} are llama-embedding's`, async () => {
      const file = encoder(pooling);
      await withFile(file, async (model) => {
        assert.equal(model.info.pooling, name);
        assert.equal(model.info.generates, false);
        const { vectors, dimensions, tokens } = await model.embed(TEXTS);
        assert.equal(dimensions, TINY_ENCODER.width);
        const expected = await reference(file, TEXTS);
        vectors.forEach((vector, i) => assertClose(vector, expected[i] ?? [], 2e-6, TEXTS[i]));
        assert.deepEqual(tokens[0], (await model.tokenize(TEXTS[0] ?? "")).length);
        const other = name === "mean" ? "cls" : "mean";
        const [changed] = (await model.embed(TEXTS, { pooling: other })).vectors;
        assertClose(changed as Float32Array, (await reference(file, TEXTS, ["--pooling", other]))[0] ?? [], 2e-6);
      });
    });
  }

  for (const pooling of ["mean", "last"] as const) {
    it(`of a model that generates, with ${pooling}, are llama-embedding's`, async () => {
      await withFile(TINY_STORIES, async (model) => {
        assert.equal(model.info.pooling, undefined);
        const texts = ["Once upon a time, there was a girl.", "They played.", "One day, a dog"];
        const before = await model.generate("One day,", { temperature: 0, maxTokens: 8 }).text();
        const { vectors } = await model.embed(texts, { pooling });
        const expected = await reference(TINY_STORIES, texts, ["--pooling", pooling]);
        vectors.forEach((vector, i) => assertClose(vector, expected[i] ?? [], 2e-5, texts[i]));
        // It still generates, and both at the same time.
        const [text, again] = await Promise.all([
          model.generate("One day,", { temperature: 0, maxTokens: 8 }).text(),
          model.embed(texts, { pooling }),
        ]);
        assert.equal(text, before);
        again.vectors.forEach((vector, i) => assertClose(vector, vectors[i] ?? [], 1e-6));
      });
    });
  }

  it("of each token are llama-embedding's", async () => {
    const file = encoder(1);
    await withFile(file, async (model) => {
      const [text] = TEXTS as [string];
      const { vectors, dimensions, tokens } = await model.embed([text, "they"], { pooling: "none" });
      const [vector] = vectors;
      assert.equal(vector?.length, (tokens[0] as number) * dimensions);
      const expected = await reference(file, [text], ["--pooling", "none"]);
      assertClose(vector as Float32Array, expected.flat(), 2e-6);
    });
  });

  it("of models with other memories are llama-embedding's", async () => {
    for (const architecture of ["mamba", "gemma2"] as const) {
      const file = folder.path(`${architecture}.gguf`);
      writeFileSync(file, randomModelOf(architecture));
      const texts = [
        "abc de",
        "b",
        "the quick brown fox jumps over the lazy dog again and again",
        "x y z",
        "last",
        "one",
      ];
      const expected = await reference(file, texts, ["--pooling", "last", "-np", "6"]);
      await withFile(file, async (model) => {
        const { vectors } = await model.embed(texts, { pooling: "last" });
        vectors.forEach((vector, i) => assertClose(vector, expected[i] ?? [], 1e-3, architecture));
      });
    }
  });

  it("do not depend on what else is read, nor on the order", async () => {
    await withFile(encoder(1), async (model) => {
      const words = ["the", "dog", "girl", "played", "time", "a", "house", "x9"];
      const text = fc.array(fc.constantFrom(...words), { minLength: 1, maxLength: 12 }).map((some) => some.join(" "));
      const alone = new Map<string, Float32Array>();
      await fc.assert(
        fc.asyncProperty(fc.array(text, { minLength: 1, maxLength: 200 }), async (texts) => {
          const { vectors } = await model.embed(texts);
          for (const [i, one] of texts.entries()) {
            let expected = alone.get(one);
            if (expected === undefined)
              alone.set(one, (expected = (await model.embed(one)).vectors[0] as Float32Array));
            assertClose(vectors[i] ?? [], expected, 1e-5, one);
          }
        }),
        { numRuns: 10 },
      );
      // Many calls at once are read together.
      const many = Array.from({ length: 300 }, (_, i) => `${words[i % words.length]} ${i}`);
      const all = await model.embed(many);
      const calls = await Promise.all(many.map((one) => model.embed(one)));
      calls.forEach(({ vectors }, i) => assertClose(vectors[0] ?? [], all.vectors[i] ?? [], 1e-5));
    });
  });

  it("have the length 1, unless that is not wanted, and as many numbers as asked for", async () => {
    await withFile(encoder(1), async (model) => {
      const length = (vector: Float32Array | undefined) => Math.hypot(...(vector ?? []));
      const whole = (await model.embed(TEXTS, { normalize: false })).vectors;
      assert.ok(whole.some((vector) => Math.abs(length(vector) - 1) > 0.1));
      for (const dimensions of [1, 7, TINY_ENCODER.width]) {
        const cut = await model.embed(TEXTS, { dimensions });
        assert.equal(cut.dimensions, dimensions);
        cut.vectors.forEach((vector, i) => {
          assert.ok(Math.abs(length(vector) - 1) < 1e-5);
          const expected = whole[i]?.subarray(0, dimensions) ?? new Float32Array();
          assertClose(
            vector,
            expected.map((value) => value / length(expected)),
            1e-5,
          );
        });
      }
      await assert.rejects(model.embed("x", { dimensions: 99 }), coldstartError("INVALID_OPTION", /99.*32/));
    });
  });

  it("of texts that are too long are refused, or of a part of them", async () => {
    await withFile(encoder(1), async (model) => {
      const long = Array.from({ length: 100 }, (_, i) => (i % 2 === 0 ? "the" : "dog")).join(" ");
      await assert.rejects(
        model.embed(["they", long]),
        coldstartError("CONTEXT_OVERFLOW", /Text 1 has 102 tokens.*64/),
      );
      const tokens = await model.tokenize(long);
      const words = long.split(" ");
      for (const [truncate, part] of [
        ["end", words.slice(0, 62)],
        ["start", words.slice(-62)],
      ] as const) {
        const { vectors, tokens: read } = await model.embed(long, { truncate });
        assert.deepEqual(read, [64]);
        assertClose(vectors[0] ?? [], (await model.embed(part.join(" "))).vectors[0] ?? [], 1e-6);
      }
      assert.equal(tokens.length, 102);
    });
    // A step is as long as a text needs.
    await withFile(
      TINY_STORIES,
      async (model) => {
        const long = "Once upon a time, there was a girl. ".repeat(150);
        const { tokens, vectors } = await model.embed([long, "They"], { pooling: "last" });
        assert.ok((tokens[0] ?? 0) > 1024);
        assertClose(vectors[1] ?? [], (await model.embed("They", { pooling: "last" })).vectors[0] ?? [], 1e-5);
      },
      { contextLength: 4096 },
    );
  });

  it("are told as they come, and end when they are aborted", async () => {
    await withFile(encoder(1), async (model) => {
      const texts = Array.from({ length: 5000 }, (_, i) => `the dog ${i}`);
      const fractions: number[] = [];
      await model.embed(texts, { onProgress: (fraction) => fractions.push(fraction) });
      assert.ok(fractions.length > 3 && fractions.at(-1) === 1);
      assert.deepEqual(
        fractions,
        fractions.toSorted((a, b) => a - b),
      );
      const abort = new AbortController();
      const ended = model.embed(texts, { signal: abort.signal, onProgress: () => abort.abort() });
      await assert.rejects(ended, coldstartError("ABORTED"));
      await assert.rejects(model.embed("x", { signal: abort.signal }), coldstartError("ABORTED"));
      const thrown = new Error("mine");
      const failing = model.embed(texts, {
        onProgress: () => {
          throw thrown;
        },
      });
      await assert.rejects(failing, thrown);
      assert.equal((await model.embed("they")).vectors.length, 1);
    });
  });

  it("of a model in a process of its own are the same", async () => {
    const file = encoder(1);
    const here = await withFile(file, (model) => model.embed(TEXTS));
    await withFile(
      file,
      async (model) => {
        const there = await model.embed(TEXTS);
        assert.deepEqual(there, here);
        const abort = new AbortController();
        const texts = Array.from({ length: 5000 }, (_, i) => `the dog ${i}`);
        const ended = model.embed(texts, { signal: abort.signal, onProgress: () => abort.abort() });
        await assert.rejects(ended, coldstartError("ABORTED"));
      },
      { isolation: "process" },
    );
  });

  it("are in the plan, and a model for them generates nothing", async () => {
    const file = encoder(undefined);
    const plan = await planModel(file);
    assert.equal(plan.kvCache.capacity, 0);
    await withFile(file, async (model) => {
      assert.deepEqual(
        plan.devices.map(({ weights, kvCache, compute }) => [weights, kvCache, compute]),
        model.placement.devices.map(({ weights, kvCache, compute }) => [weights, kvCache, compute]),
      );
      for (let i = 0; i < 50; i++)
        await assert.rejects(model.generate("the dog").result, coldstartError("UNSUPPORTED_MODEL", /embed\(\)/));
      await assert.rejects(model.score("the dog went"), coldstartError("UNSUPPORTED_MODEL"));
      assert.equal(model.status().running, 0);
      // Its file does not say how to pool.
      assert.deepEqual(await model.embed(TEXTS), await model.embed(TEXTS, { pooling: "mean" }));
    });
  });

  it("say what is wrong with what is given", async () => {
    await withFile(encoder(1), async (model) => {
      const refuses = (given: unknown, options: object, pattern: RegExp) =>
        assert.rejects(model.embed(given as string, options), coldstartError("INVALID_OPTION", pattern));
      await refuses(3, {}, /texts/);
      await refuses(["a", 3], {}, /texts\[1\]/);
      await refuses("a", { pooling: "rank" }, /pooling/);
      await refuses("a", { pool: "mean" }, /pooling/);
      await refuses("a", { dimensions: 0 }, /dimensions/);
      await refuses("a", { truncate: "middle" }, /truncate/);
      const nothing: Embeddings = await model.embed([]);
      assert.deepEqual(nothing.vectors, []);
      assert.equal((await model.embed("")).vectors.length, 1); // [CLS] [SEP]
      await assert.rejects(model.rerank("a", ["b"]), coldstartError("UNSUPPORTED_MODEL", /ranks no documents/));
    });
    await withFile(TINY_STORIES, async (model) => {
      assert.equal((await model.embed("")).vectors.length, 1); // beginning of text
      for (let i = 0; i < 50; i++)
        await assert.rejects(model.embed("x", { pooling: "cls", dimensions: 1e6 }), coldstartError("INVALID_OPTION"));
    });
  });

  it("are refused where weights are damaged", async () => {
    const file = encoder(1);
    const bytes = randomEncoder({ ...TINY_ENCODER, pooling: 1 });
    // The last numbers are a bias of the last norm.
    new Float32Array([NaN]).forEach((value) => bytes.writeFloatLE(value, bytes.length - 4));
    writeFileSync(file, bytes);
    await withFile(file, async (model) => {
      await assert.rejects(model.embed(["the", "dog"]), coldstartError("NUMERIC_ERROR", /text 0/));
    });
  });
});

describe("rerank", function () {
  this.timeout(60_000);
  const folder = temporaryFolder();
  const DOCUMENTS = ["the dog went to play", "once upon a time", "a happy girl", "the house", "the dog", "x"];

  const withReranker = async (body: (model: Model, file: string) => Promise<void>) => {
    const file = folder.path("reranker.gguf");
    writeFileSync(file, randomEncoder({ ...TINY_ENCODER, pooling: 4 }));
    const model = await loadModel(file, { threads: 1 });
    try {
      await body(model, file);
    } finally {
      await model.dispose();
    }
  };

  it("scores documents as llama-embedding does, and sorts them", async () => {
    await withReranker(async (model, file) => {
      assert.equal(model.info.pooling, "rank");
      const ranked = await model.rerank("where was the dog", DOCUMENTS);
      assert.deepEqual(
        ranked.map(({ score }) => score),
        ranked.map(({ score }) => score).toSorted((a, b) => b - a),
      );
      assert.equal(new Set(ranked.map(({ score }) => score.toFixed(4))).size, DOCUMENTS.length);
      for (const { index, document, score } of ranked) {
        assert.equal(document, DOCUMENTS[index]);
        const output = await runTool(
          "llama-embedding",
          [
            "-m",
            file,
            "-p",
            `where was the dog\t${document}`,
            "--pooling",
            "rank",
            "--embd-normalize",
            "-1",
            "-t",
            "1",
          ],
          /rerank score/,
        );
        const expected = Number(/rerank score 0: *(-?[0-9.]+)/.exec(output)?.[1]);
        assert.ok(Math.abs(score - expected) < 2e-3, `${document}: ${score}, ${expected}`);
      }
      const best = await model.rerank("where was the dog", DOCUMENTS, { topN: 2 });
      assert.deepEqual(best, ranked.slice(0, 2));
    });
  });

  it("leaves the query whole where a document is too long", async () => {
    await withReranker(async (model) => {
      const long = "the dog and girl play ".repeat(40);
      await assert.rejects(model.rerank("the dog", ["x", long]), coldstartError("CONTEXT_OVERFLOW", /Text 1/));
      const [cut] = await model.rerank("the dog", [long], { truncate: "end" });
      const words = long.trim().split(" ");
      // Query and document have [CLS], [SEP] and what the model puts between.
      const fits = await Promise.all(
        [58, 59, 60, 61].map((count) => model.rerank("the dog", [words.slice(0, count).join(" ")]).catch(() => [])),
      );
      const longest = fits.filter((ranked) => ranked.length > 0).at(-1)?.[0];
      assert.ok(longest && cut && Math.abs(longest.score - cut.score) < 1e-5);
      const query = "the dog ".repeat(50);
      await assert.rejects(model.rerank(query, ["x"], { truncate: "end" }), coldstartError("CONTEXT_OVERFLOW"));
    });
  });

  it("is what a reranker is for", async () => {
    await withReranker(async (model) => {
      await assert.rejects(model.embed("x"), coldstartError("UNSUPPORTED_MODEL", /rerank\(\)/));
      assert.equal((await model.embed("x", { pooling: "cls" })).vectors.length, 1);
      assert.deepEqual(await model.rerank("x", []), []);
      await assert.rejects(model.rerank(3 as never, ["x"]), coldstartError("INVALID_OPTION", /query/));
      await assert.rejects(model.rerank("x", "y" as never), coldstartError("INVALID_OPTION", /documents/));
    });
  });
});
