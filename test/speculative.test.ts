// Guessing ahead changes how fast tokens come, and nothing else.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { loadModel, type GenerateOptions, type Model, type SpeculativeOptions } from "../lib/index.js";
import { coldstartError } from "./support/errors.js";
import { PROMPT, STORIES_260K, TINY_STORIES, withModel } from "./support/models.js";
import { randomModelOf } from "./support/random-model.js";
import { assertSame } from "./support/results.js";

const PROMPTS = [
  PROMPT,
  "One day,",
  "Once there was a girl named Mia. Mia had a red ball. Once there was a girl named Mia. Mia had a",
  "Tom and Lily went to the park. Tom and Lily went to the park. Tom and Lily",
];

const kinds: Record<string, SpeculativeOptions> = {
  lookup: { type: "lookup", match: 2, draftTokens: 12 },
  "a draft model": { type: "draft", model: TINY_STORIES, minProbability: 0.2 },
};

for (const [name, speculative] of Object.entries(kinds)) {
  describe(`speculative decoding by ${name}`, () => {
    let plain: Model;
    let model: Model;
    before(async () => {
      plain = await loadModel(TINY_STORIES, { threads: 1 });
      model = await loadModel(TINY_STORIES, { threads: 1, speculative });
    });
    after(() => Promise.all([plain.dispose(), model.dispose()]));

    const cases: Record<string, GenerateOptions> = {
      greedily: { temperature: 0, maxTokens: 120 },
      "to the end of the context": { temperature: 0, logitBias: { 2: -Infinity } },
      sampling: { temperature: 1, maxTokens: 100 },
      "with penalties": { temperature: 1, maxTokens: 100, repeatPenalty: 1.3, presencePenalty: 0.5 },
      "with mirostat": { mirostat: { version: 2 }, maxTokens: 100 },
      "with a grammar": { grammar: 'root ::= (" the" | " and" | " cat" | " dog")+', maxTokens: 40 },
      "with a stop string": { temperature: 0, stop: ["ball", "park."] },
      "with log-probabilities": { temperature: 0, maxTokens: 30, logprobs: 3 },
      shifting: { temperature: 0, maxTokens: 500, overflow: "shift", logitBias: { 2: -Infinity } },
    };
    for (const [what, options] of Object.entries(cases)) {
      it(`gives the same answers ${what}`, async () => {
        let guessed = 0;
        for (const [seed, prompt] of PROMPTS.entries()) {
          const expected = await plain.generate(prompt, { ...options, seed }).result;
          const result = await model.generate(prompt, { ...options, seed }).result;
          assert.deepEqual(result.tokens, expected.tokens);
          assert.equal(result.text, expected.text);
          assert.equal(result.finishReason, expected.finishReason);
          if (options.logprobs !== undefined) {
            const values = ({ logprobs }: typeof result) => logprobs!.map(({ logprob }) => logprob);
            values(result).forEach((value, i) => assert.ok(Math.abs(value - values(expected)[i]!) < 1e-3));
          }
          const { guessedTokens, acceptedTokens } = result.timings;
          assert.ok(acceptedTokens <= guessedTokens && acceptedTokens <= result.tokens.length);
          guessed += guessedTokens;
          assert.equal(expected.timings.guessedTokens, 0);
        }
        assert.ok(guessed > 0, "it did guess");
      });
    }

    it("gives many at a time the answers they have alone, cancelled ones among them", async () => {
      const options = (seed: number): GenerateOptions => ({ seed, temperature: 0.8, maxTokens: 60 });
      const requests = Array.from({ length: 40 }, (_, i) => ({ prompt: PROMPTS[i % 4]!, seed: i }));
      const together = await Promise.all(
        requests.map(async ({ prompt, seed }) => {
          const generation = model.generate(prompt, options(seed));
          if (seed % 5 === 0) for await (const _chunk of generation) break;
          return generation.result;
        }),
      );
      for (const [i, { prompt, seed }] of requests.entries()) {
        const expected = (await plain.generate(prompt, options(seed)).result).tokens;
        assert.deepEqual(together[i]!.tokens, expected.slice(0, together[i]!.tokens.length));
      }
      const { atWork, used, capacity } = model.status().kvCache;
      assert.ok(atWork === 0 && used <= capacity);
    });
  });
}

describe("speculative decoding", () => {
  it("is right about a text that repeats itself", async () => {
    await withModel({ speculative: { type: "lookup" } }, async (model) => {
      const grammar = `root ::= ${JSON.stringify(" The cat sat on the mat and the dog sat on the log.".repeat(3))}`;
      const { timings, tokens } = await model.generate(PROMPT, { grammar, temperature: 0 }).result;
      assert.ok(timings.acceptedTokens > tokens.length / 5, `${timings.acceptedTokens} of ${tokens.length}`);
    });
  });

  it("refuses a draft model with another vocabulary, and models that cannot take back", async function () {
    if (STORIES_260K !== undefined) {
      const speculative = { type: "draft" as const, model: STORIES_260K };
      await assert.rejects(
        loadModel(TINY_STORIES, { speculative }),
        coldstartError("UNSUPPORTED_MODEL", /same vocabulary/),
      );
    }
    const folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
    const mamba = path.join(folder, "mamba.gguf");
    writeFileSync(mamba, randomModelOf("mamba"));
    await assert.rejects(
      loadModel(mamba, { speculative: { type: "lookup" } }),
      coldstartError("UNSUPPORTED_MODEL", /cannot be cut/),
    );
    rmSync(folder, { recursive: true });
    await assert.rejects(
      loadModel(TINY_STORIES, { speculative: { type: "draft", model: "nothing.gguf" } }),
      coldstartError("MODEL_NOT_FOUND", /nothing\.gguf/),
    );
  });

  it("takes back what a sliding window has seen", async () => {
    const folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
    const gemma = path.join(folder, "gemma2.gguf");
    writeFileSync(gemma, randomModelOf("gemma2"));
    const speculative = { type: "lookup", match: 1 } as const;
    await withModel({ path: gemma }, (plain) =>
      withModel({ path: gemma, speculative }, async (model) => {
        // Texts that repeat themselves, of another length than the window, and go on otherwise.
        const requests = Array.from({ length: 12 }, (_, i) => ({
          prompt: Array.from({ length: 60 + 11 * i }, (_, at) => 260 + (((at % 23) * 31 + i) % 250)),
          options: { maxTokens: 80, temperature: 0, logitBias: { 2: -Infinity }, logprobs: 4 },
        }));
        const together = await Promise.all(
          requests.map(({ prompt, options }) => model.generate(prompt, options).result),
        );
        const guessed = together.reduce((sum, { timings }) => sum + timings.guessedTokens, 0);
        assert.ok(guessed > 100, `${guessed}`);
        for (const [i, { prompt, options }] of requests.entries()) {
          const expected = await plain.generate(prompt, options).result;
          assertSame(together[i]!, expected, `text ${i}`);
          assertSame(await model.generate(prompt, options).result, expected, `text ${i} alone`);
        }
      }),
    );
    await assert.rejects(
      loadModel(gemma, { speculative, kvCache: { layout: "split" } }),
      coldstartError("UNSUPPORTED_MODEL", /cannot be cut/),
    );
    rmSync(folder, { recursive: true });
  });

  it("refuses options that make no sense", async () => {
    for (const speculative of [
      {},
      { type: "magic" },
      { type: "lookup", draftTokens: 0 },
      { type: "lookup", model: "x" },
      { type: "draft" },
      { type: "draft", model: "x", minProbability: 2 },
      { type: "mtp", model: "x" },
      { type: "mtp", draftTokens: 65 },
      { type: "mtp", minProbability: -1 },
      "lookup",
    ]) {
      await assert.rejects(
        loadModel(TINY_STORIES, { speculative: speculative as SpeculativeOptions }),
        coldstartError("INVALID_OPTION"),
      );
    }
  });
});
