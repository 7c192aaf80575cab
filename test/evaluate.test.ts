import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { evaluate, quantizeModel, type ChoicesResult, type PerplexityResult } from "../lib/index.js";
import { coldstartError } from "./support/errors.js";
import { runTool } from "./support/llama-tools.js";
import { PROMPT, STORIES_260K, TINY_STORIES, withModel } from "./support/models.js";
import { F32, LARGE, randomModel } from "./support/random-model.js";
import { writeStories } from "./support/stories.js";
import { temporaryFolder } from "./support/temporary-folder.js";

const number = (text: string, pattern: RegExp): number => {
  const found = pattern.exec(text)?.[1];
  assert.ok(found !== undefined, `${pattern} in ${text.slice(-2000)}`);
  return Number(found);
};
const assertWithin = (actual: number, expected: number, share: number) =>
  assert.ok(Math.abs(actual - expected) <= share * Math.abs(expected), `${actual}, ${expected}`);

describe("evaluate(): perplexity", () => {
  const folder = temporaryFolder();

  for (const [name, file] of Object.entries({ "the embedded model": TINY_STORIES, stories260K: STORIES_260K })) {
    it(`is that of llama-perplexity, on ${name}`, async function () {
      if (file === undefined) return this.skip();
      const text = await withModel({}, (model) => writeStories(model, 12));
      writeFileSync(folder.path("text"), text);
      for (const chunkLength of [64, 101]) {
        const size = String(chunkLength);
        const args = ["-m", file, "-f", folder.path("text"), "-c", size, "-b", size, "-t", "1"];
        const said = await runTool("llama-perplexity", args, /PPL = [\d.]+ \+\/- [\d.]+/);
        const result: PerplexityResult = await withModel({ path: file }, (model) =>
          evaluate(model, { type: "perplexity", text, chunkLength }),
        );
        assertWithin(result.perplexity.value, number(said, /PPL = ([\d.]+)/), 1e-3);
        // Theirs is one standard error of the mean logarithm.
        const half = (result.logprob.high - result.logprob.low) / 2 / 1.959964;
        assertWithin(half * result.perplexity.value, number(said, /\+\/- ([\d.]+)/), 0.02);
        assert.equal(result.chunks, number(said, /over (\d+) chunks/));
      }
    });
  }

  it("is the same in a batch of its own, in deterministic mode and with few rows of logits", async () => {
    const text = await withModel({}, (model) => writeStories(model, 8));
    const task = { type: "perplexity", text, chunkLength: 128 } as const;
    const { perplexity } = await withModel({}, (model) => evaluate(model, task));
    for (const options of [{ deterministic: true }, { batchSize: 9, parallel: 8 }, { isolation: "process" }] as const) {
      const other = await withModel(options, (model) => evaluate(model, task));
      assertWithin(other.perplexity.value, perplexity.value, 1e-4);
    }
  });

  it("compares with another model as llama-perplexity --kl-divergence does", async () => {
    writeFileSync(
      folder.path("base.gguf"),
      randomModel({ ...LARGE, type: F32, vocabulary: 1024, contextLength: 256, layers: 2 }),
    );
    await quantizeModel(folder.path("base.gguf"), folder.path("model.gguf"), { type: "Q4_0" });
    const text = await withModel({}, (model) => writeStories(model, 6));
    writeFileSync(folder.path("text"), text);
    const common = [
      "-f",
      folder.path("text"),
      "-c",
      "64",
      "-b",
      "64",
      "-t",
      "1",
      "--kl-divergence-base",
      folder.path("logits"),
    ];
    await runTool("llama-perplexity", ["-m", folder.path("base.gguf"), ...common]);
    const said = await runTool(
      "llama-perplexity",
      ["-m", folder.path("model.gguf"), ...common, "--kl-divergence"],
      /Same top p:/,
    );

    const result = await withModel({ path: folder.path("base.gguf") }, (base) =>
      withModel({ path: folder.path("model.gguf") }, (model) =>
        evaluate(model, { type: "perplexity", text, chunkLength: 64, base }),
      ),
    );
    const { divergence, topAgreement, probabilityChange, basePerplexity, perplexityRatio } = result.comparison!;
    assertWithin(divergence.value, number(said, /Mean\s+KLD:\s+([\d.]+)/), 0.01);
    assertWithin(divergence.max, number(said, /Maximum KLD:\s+([\d.]+)/), 0.02);
    assertWithin(divergence.p99, number(said, /99\.0%\s+KLD:\s+([\d.]+)/), 0.02);
    assertWithin(divergence.median, number(said, /Median\s+KLD:\s+([\d.]+)/), 0.02);
    assertWithin(100 * topAgreement.value, number(said, /Same top p:\s+([\d.]+)/), 0.01);
    assertWithin(100 * probabilityChange.rms, number(said, /RMS Δp\s+:\s+([\d.]+)/), 0.05);
    assertWithin(basePerplexity.value, number(said, /Mean PPL\(base\)\s+:\s+([\d.]+)/), 1e-3);
    assertWithin(perplexityRatio.value, number(said, /Mean PPL\(Q\)\/PPL\(base\)\s+:\s+([\d.]+)/), 1e-3);
  });

  it("finds a model equal to itself", async () => {
    const text = await withModel({}, (model) => writeStories(model, 4));
    await withModel({ deterministic: true }, async (model) => {
      const { comparison } = await evaluate(model, { type: "perplexity", text, chunkLength: 100, base: model });
      assert.ok(comparison!.divergence.value < 1e-4, String(comparison!.divergence.value));
      assert.deepEqual([comparison!.topAgreement.value, comparison!.perplexityRatio.value], [1, 1]);
    });
  });

  it("tells results as they come, ends on request, and leaves nothing at work", async () => {
    const text = await withModel({}, (model) => writeStories(model, 8));
    await withModel({}, async (model) => {
      const task = { type: "perplexity", text, chunkLength: 64 } as const;
      const results: PerplexityResult[] = [];
      const fractions: number[] = [];
      const last = await evaluate(model, task, {
        onResult: (result) => results.push(result),
        onProgress: (f) => fractions.push(f),
      });
      assert.deepEqual(
        results.map(({ chunks }) => chunks),
        results.map((_, i) => i + 1),
      );
      assert.deepEqual(results.at(-1), last);
      assert.equal(last.chunks, last.totalChunks);
      assert.equal(fractions.at(-1), 1);

      const stop = new AbortController();
      const aborted = evaluate(model, task, { signal: stop.signal, onResult: () => stop.abort() });
      await assert.rejects(aborted, coldstartError("ABORTED"));
      const thrown = evaluate(model, task, {
        onResult: () => {
          throw new RangeError("mine");
        },
      });
      await assert.rejects(thrown, RangeError);
      await model.generate(PROMPT, { maxTokens: 1 }).result;
      assert.equal(model.status().kvCache.atWork, 0);
    });
  });

  it("refuses what it cannot evaluate", async () => {
    await withModel({}, async (model) => {
      const refuses = (task: object, code: "INVALID_OPTION" | "CONTEXT_OVERFLOW", message: RegExp) =>
        assert.rejects(evaluate(model, task as never), coldstartError(code, message));
      await refuses({ type: "beauty" }, "INVALID_OPTION", /task.type is "beauty"/);
      await refuses({ type: "perplexity", text: "short" }, "INVALID_OPTION", /has \d+ tokens, and a chunk 256/);
      await refuses({ type: "perplexity", text: "x", chunkLength: 300 }, "CONTEXT_OVERFLOW", /300 tokens/);
      await refuses({ type: "perplexity", text: "x", base: {} }, "INVALID_OPTION", /base/);
      await refuses({ type: "perplexity", text: "x", chunks: 3 }, "INVALID_OPTION", /chunks/);
      await assert.rejects(
        evaluate({} as never, { type: "perplexity", text: "" }),
        coldstartError("INVALID_OPTION", /model/),
      );
    });
  });
});

describe("evaluate(): choices", () => {
  const folder = temporaryFolder();
  const ITEMS = [
    { question: "Once upon a", choices: [" time", " table", " fish"], answer: 0 },
    {
      question: "Once upon a time, there was a",
      choices: [" xylophone.", " little girl"],
      answer: 1,
      subject: "stories",
    },
    { question: "The end", choices: [" of the day, which was a very long day.", "."], answer: 0 },
  ];

  it("chooses the likeliest, as a whole and by byte", async () => {
    await withModel({ parallel: 3 }, async (model) => {
      const told: ChoicesResult[] = [];
      const result = await evaluate(model, { type: "choices", items: ITEMS }, { onResult: (one) => told.push(one) });
      assert.equal(told.length, ITEMS.length);
      let [right, byByte] = [0, 0];
      for (const [i, { question, choices, answer }] of ITEMS.entries()) {
        const scores = await Promise.all(choices.map((choice) => model.score(choice, { given: question })));
        const best = (values: number[]) => values.indexOf(Math.max(...values));
        const sums = scores.map(({ logprobs }) => logprobs.reduce((a, b) => a + b));
        right += best(sums) === answer ? 1 : 0;
        byByte += best(sums.map((sum, k) => sum / Buffer.byteLength(choices[k]!))) === answer ? 1 : 0;
        told[i]!.last!.logprobs.forEach((logprob, k) => assert.ok(Math.abs(logprob - sums[k]!) < 1e-2));
        assert.equal(told[i]!.last!.index, i);
      }
      assert.equal(result.accuracy.value, right / 3);
      assert.equal(result.accuracyByByte.value, byByte / 3);
      assert.ok(right >= 2, "it knows how stories begin");
      assert.ok(result.accuracy.low < result.accuracy.value && result.accuracy.high <= 1);
    });
  });

  it("takes items from a file, an iterable and an async one", async () => {
    writeFileSync(folder.path("items.jsonl"), `${ITEMS.map((item) => JSON.stringify(item)).join("\n\n")}\n`);
    async function* asynchronous() {
      yield* ITEMS;
    }
    await withModel({}, async (model) => {
      const expected = await evaluate(model, { type: "choices", items: ITEMS });
      for (const items of [folder.path("items.jsonl"), new Set(ITEMS), asynchronous()])
        assert.deepEqual((await evaluate(model, { type: "choices", items })).accuracy, expected.accuracy);
    });
  });

  it("says which item is none", async () => {
    const [good] = ITEMS;
    writeFileSync(folder.path("bad.jsonl"), `${JSON.stringify(good)}\n{"question":\n`);
    await withModel({}, async (model) => {
      const refuses = (
        items: unknown,
        message: RegExp,
        code: "INVALID_OPTION" | "MODEL_NOT_FOUND" = "INVALID_OPTION",
      ) => assert.rejects(evaluate(model, { type: "choices", items } as never), coldstartError(code, message));
      await refuses([good, { ...good, answer: 3 }], /items\[1\]\.answer is 3/);
      await refuses([{ ...good, choices: ["one"] }], /items\[0\]\.choices/);
      await refuses([{ ...good, question: 5 }], /items\[0\]\.question/);
      await refuses([7], /items\[0\]/);
      await refuses([], /at least one question/);
      await refuses(7, /task.items/);
      await refuses(folder.path("bad.jsonl"), /bad.jsonl:2 is not JSON/);
      await refuses(folder.path("none.jsonl"), /none.jsonl cannot be read/, "MODEL_NOT_FOUND");
      assert.equal(model.status().waiting, 0);
    });
  });
});

describe("evaluate(): answers", () => {
  it("compares what is generated with the right answers", async () => {
    await withModel({}, async (model) => {
      const answer = await model.generate(PROMPT, { temperature: 0, maxTokens: 8 }).text();
      const [first = ""] = answer.trim().split(" ");
      const items = [
        { prompt: PROMPT, answer: ["nothing of the kind", `The ${answer.toUpperCase()}!`] },
        { prompt: PROMPT, answer: "zebra crossing" },
        { prompt: PROMPT, answer: `zebra ${first === "a" ? answer.trim().split(" ")[1] : first}` },
      ];
      const f1s: number[] = [];
      const result = await evaluate(
        model,
        { type: "answers", items, generate: { maxTokens: 8 } },
        { onResult: ({ last }) => f1s.push(last!.f1) },
      );
      assert.equal(result.answers, 3);
      assert.equal(result.exactMatch.value, 1 / 3);
      assert.deepEqual(f1s.slice(0, 2), [1, 0]);
      // One word in common: precision 1 of the answer's words, recall 1 of 2.
      const words = answer
        .trim()
        .split(" ")
        .filter((word) => !["a", "an", "the"].includes(word)).length;
      assert.ok(Math.abs(f1s[2]! - 2 / (words + 2)) < 1e-12, `${f1s[2]}, ${words} words of ${answer}`);
      assert.ok(Math.abs(result.f1.value - (f1s[0]! + f1s[1]! + f1s[2]!) / 3) < 1e-12);
      await assert.rejects(
        evaluate(model, { type: "answers", items, generate: { temperature: -1 } }),
        coldstartError("INVALID_OPTION", /temperature/),
      );
      await assert.rejects(
        evaluate(model, { type: "answers", items: [{ prompt: PROMPT }] as never }),
        coldstartError("INVALID_OPTION", /items\[0\]\.answer/),
      );
    });
  });
});
