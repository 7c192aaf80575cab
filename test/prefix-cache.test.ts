// What was computed is used again, and changes no token.

import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { loadModel, type GenerateOptions, type LoadOptions, type Model } from "../lib/index.js";
import { coldstartError } from "./support/errors.js";
import { PROMPT, TINY_STORIES, withModel } from "./support/models.js";

const GREEDY: GenerateOptions = { temperature: 0, maxTokens: 24 };
const NAMES = ["Mia", "Tom", "Lily", "Ben", "Sam", "Nina", "Max", "Anna"];

/** Tokens of text on the model's distribution, `length` of them. */
async function story(model: Model, name: string, length: number): Promise<number[]> {
  const start = await model.tokenize(`Once there was a girl named ${name}`);
  const options: GenerateOptions = { temperature: 0, maxTokens: length - start.length, logitBias: { 2: -Infinity } };
  return [...start, ...(await model.generate(start, options).result).tokens].slice(0, length);
}

const layouts: [name: string, options: LoadOptions][] = [
  ["a unified KV cache", { kvCache: { layout: "unified", capacity: 2048 } }],
  ["a split KV cache", { kvCache: { layout: "split" } }],
];

for (const [name, options] of layouts) {
  describe(`the prefix cache, with ${name}`, () => {
    let model: Model;
    let plain: Model;
    before(async () => {
      model = await loadModel(TINY_STORIES, { threads: 1, ...options });
      plain = await loadModel(TINY_STORIES, { threads: 1, prefixCache: false });
    });
    after(() => Promise.all([model.dispose(), plain.dispose()]));

    it("uses a prompt again, but for the token that the answer starts from", async () => {
      const prompt = await story(plain, "Mia", 100);
      const first = await model.generate(prompt, GREEDY).result;
      const second = await model.generate(prompt, GREEDY).result;
      assert.equal(second.usage.cachedTokens, prompt.length - 1);
      const without = await plain.generate(prompt, GREEDY).result;
      assert.equal(without.usage.cachedTokens, 0);
      assert.deepEqual([first.tokens, second.tokens], [without.tokens, without.tokens]);
    });

    it("uses the turns of a conversation again, the answers included", async () => {
      let text = await story(plain, "Tom", 40);
      for (let turn = 0; turn < 4; turn++) {
        const { tokens, usage } = await model.generate(text, GREEDY).result;
        if (turn > 0) assert.ok(usage.cachedTokens >= text.length - 6, `${usage.cachedTokens} of ${text.length}`);
        assert.deepEqual(tokens, (await plain.generate(text, GREEDY).result).tokens);
        text = [...text, ...tokens, ...(await model.tokenize("Then", { addSpecial: false }))];
      }
    });

    it("shares a beginning among prompts that go on differently", async () => {
      const shared = await story(plain, "Nina", 90);
      for (const name of NAMES) {
        const prompt = [...shared, ...(await model.tokenize(` ${name} was`, { addSpecial: false }))];
        const { tokens, usage } = await model.generate(prompt, GREEDY).result;
        if (name !== NAMES[0]) assert.ok(usage.cachedTokens >= shared.length, `${usage.cachedTokens}`);
        assert.deepEqual(tokens, (await plain.generate(prompt, GREEDY).result).tokens);
      }
    });

    it("computes a beginning once for prompts that come at the same time", async () => {
      const shared = await story(plain, "Lily", 120);
      const prompts = await Promise.all(
        NAMES.map(async (name) => [...shared, ...(await model.tokenize(` ${name} was`, { addSpecial: false }))]),
      );
      const results = await Promise.all(prompts.map((prompt) => model.generate(prompt, GREEDY).result));
      const computed = results.reduce((sum, { usage }) => sum + usage.promptTokens - usage.cachedTokens, 0);
      const own = prompts.reduce((sum, prompt) => sum + prompt.length - shared.length, 0);
      assert.ok(computed <= shared.length + own, `${computed} tokens computed`);
      for (const [i, prompt] of prompts.entries()) {
        assert.deepEqual(results[i]!.tokens, (await plain.generate(prompt, GREEDY).result).tokens);
      }
    });

    it("keeps what a cancelled generation has computed", async () => {
      const prompt = await story(plain, "Ben", 80);
      const generation = model.generate(prompt, { logitBias: { 2: -Infinity } });
      for await (const _chunk of generation) break;
      await generation.result;
      assert.equal((await model.generate(prompt, GREEDY).result).usage.cachedTokens, prompt.length - 1);
    });

    it("can be off", async () => {
      for (let i = 0; i < 2; i++) {
        assert.equal((await plain.generate(PROMPT, GREEDY).result).usage.cachedTokens, 0);
      }
      assert.equal(plain.status().kvCache.used, 0);
    });
  });
}

describe("the prefix cache under pressure", () => {
  it("drops what was used longest ago first", async () => {
    await withModel(
      { contextLength: 128, kvCache: { capacity: 256, spill: { bytes: 0 } }, parallel: 2 },
      async (model) => {
        const [a, b, c] = await Promise.all(NAMES.slice(0, 3).map((name) => story(model, name, 100)));
        const cached = async (prompt: number[]) =>
          (await model.generate(prompt, { temperature: 0, maxTokens: 1 }).result).usage.cachedTokens;
        for (const prompt of [a!, b!]) await cached(prompt);
        assert.equal(await cached(a!), 99, "a is the newest now");
        await cached(c!); // b has to go
        assert.equal(await cached(a!), 99);
        assert.ok((await cached(b!)) < 20, "b is gone");
        const { used, capacity } = model.status().kvCache;
        assert.ok(used <= capacity);
      },
    );
  });

  const homes: [layout: "unified" | "split", directory: string | undefined][] = [
    ["unified", undefined],
    ["split", undefined],
    ["unified", os.tmpdir()],
  ];
  for (const [layout, directory] of homes) {
    it(`moves cold prefixes from a ${layout} cache to ${directory ? "files" : "main memory"} and back`, async () => {
      const kvCache = {
        layout,
        spill: { bytes: 64 * 2 ** 20, ...(directory && { directory }) },
        ...(layout === "unified" && { capacity: 256 }),
      };
      await withModel({ contextLength: 128, kvCache, parallel: 2 }, async (model) => {
        const prompts = await Promise.all(NAMES.map((name) => story(model, name, 100)));
        const expected: number[][] = [];
        for (const prompt of prompts) expected.push((await model.generate(prompt, GREEDY).result).tokens);
        assert.ok(model.status().kvCache.spilledBytes > 100_000, "some have left");
        for (const [i, prompt] of prompts.entries()) {
          const { usage, tokens } = await model.generate(prompt, GREEDY).result;
          assert.equal(usage.cachedTokens, 99, "all are still known");
          assert.deepEqual(tokens, expected[i]);
        }
      });
    });
  }

  it("keeps what has left within its bound", async () => {
    const bytes = 300_000;
    await withModel(
      { contextLength: 128, kvCache: { capacity: 256, spill: { bytes } }, parallel: 2 },
      async (model) => {
        for (let i = 0; i < 40; i++) {
          await model.generate(`One day, ${NAMES[i % 8]} and ${NAMES[(i * 3) % 8]} ${i}`, {
            maxTokens: 100,
            logitBias: { 2: -Infinity },
            seed: i,
          }).result;
          assert.ok(model.status().kvCache.spilledBytes <= bytes);
        }
      },
    );
  });

  it("leaves no files, and goes on with a warning when they cannot be made", async () => {
    const directory = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
    const warnings: (Error & { code?: string })[] = [];
    const listen = (warning: Error) => warnings.push(warning);
    process.on("warning", listen);
    const kvCache = { capacity: 256, spill: { directory } };
    await withModel({ contextLength: 128, kvCache, parallel: 2 }, async (model) => {
      for (const name of NAMES) await story(model, name, 100);
      assert.ok(model.status().kvCache.spilledBytes > 100_000);
      assert.deepEqual(readdirSync(directory), [], "they have no names");
      rmSync(directory, { recursive: true });
      for (const name of NAMES) assert.equal((await story(model, `${name} Brown`, 100)).length, 100);
      await new Promise((resolve) => setTimeout(resolve, 20));
    });
    process.off("warning", listen);
    assert.ok(warnings.some(({ code, message }) => code === "SPILL_FAILED" && /No file could be made/.test(message)));
    await assert.rejects(
      loadModel(TINY_STORIES, { kvCache }),
      coldstartError("INVALID_OPTION", /a directory that exists/),
    );
  });

  it("lets generations give way to each other, and all end with the tokens they have alone", async () => {
    const long: GenerateOptions = { temperature: 0, maxTokens: 150, logitBias: { 2: -Infinity } };
    await withModel({ contextLength: 256, kvCache: { capacity: 512 }, parallel: 8 }, async (model) => {
      const prompts = NAMES.map((name) => `Once there was a boy named ${name}`);
      const together = await Promise.all(prompts.map((prompt) => model.generate(prompt, long).result));
      assert.ok(
        together.some(({ timings }) => timings.preemptions > 0),
        "the cache was too small for all",
      );
      for (const [i, prompt] of prompts.entries()) {
        const alone = await model.generate(prompt, long).result;
        assert.deepEqual(together[i]!.tokens, alone.tokens);
        assert.equal(together[i]!.usage.completionTokens, 150);
      }
    });
  });
});
