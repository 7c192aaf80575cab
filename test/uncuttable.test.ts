// Models whose memory cannot be cut at any place: recurrent ones, and those with sliding windows. States are kept whole.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import type { GenerateOptions } from "../lib/index.js";
import { coldstartError } from "./support/errors.js";
import { withModel } from "./support/models.js";
import { randomModelOf } from "./support/random-model.js";

const OPTIONS: GenerateOptions = { temperature: 0, maxTokens: 20, logitBias: { 2: -Infinity } };

for (const architecture of ["mamba", "gemma2"] as const) {
  describe(`a model of the architecture ${architecture}`, () => {
    let folder: string;
    let file: string;
    before(() => {
      folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
      file = path.join(folder, "model.gguf");
      writeFileSync(file, randomModelOf(architecture));
    });
    after(() => rmSync(folder, { recursive: true }));

    const prompt = (length: number, own = 0) => Array.from({ length }, (_, i) => 260 + ((i * 31 + own) % 250));

    it("uses prompts and conversations again, with the same tokens", async () => {
      await withModel({ path: file, prefixCache: false }, (plain) =>
        withModel({ path: file }, async (model) => {
          let text = prompt(100);
          const first = await model.generate(text, OPTIONS).result;
          assert.equal(first.usage.cachedTokens, 0);
          const again = await model.generate(text, OPTIONS).result;
          assert.equal(again.usage.cachedTokens, 99, "the same prompt");
          const expected = (await plain.generate(text, OPTIONS).result).tokens;
          assert.deepEqual([first.tokens, again.tokens], [expected, expected]);

          text = [...text, ...first.tokens, ...prompt(10, 5)];
          const next = await model.generate(text, OPTIONS).result;
          assert.equal(next.usage.cachedTokens, 119, "the conversation, but for the last token of the answer");
          assert.deepEqual(next.tokens, (await plain.generate(text, OPTIONS).result).tokens);

          const other = [...prompt(60), ...prompt(30, 9)];
          const diverging = await model.generate(other, OPTIONS).result;
          assert.equal(diverging.usage.cachedTokens, 0, "it cannot go on from the middle of a state");
          assert.deepEqual(diverging.tokens, (await plain.generate(other, OPTIONS).result).tokens);
          assert.equal(plain.status().kvCache.spilledBytes, 0, "nothing is kept in vain");
        }),
      );
    });

    it("runs many at a time, with the tokens each has alone", async () => {
      await withModel({ path: file, parallel: 4 }, async (model) => {
        const prompts = Array.from({ length: 12 }, (_, i) => prompt(20 + 7 * i, i % 3));
        const together = await Promise.all(prompts.map((one) => model.generate(one, OPTIONS).result));
        for (const [i, one] of prompts.entries()) {
          assert.deepEqual(together[i]!.tokens, (await model.generate(one, OPTIONS).result).tokens);
        }
        assert.equal(model.status().kvCache.atWork, 0);
      });
    });

    it("computes everything anew in deterministic mode, whose pieces its states do not fit", async () => {
      await withModel({ path: file, prefixCache: false, deterministic: true, batchSize: 64 }, (plain) =>
        withModel({ path: file, deterministic: true, batchSize: 64, parallel: 2 }, async (model) => {
          const first = await model.generate(prompt(100), OPTIONS).result;
          const text = [...prompt(100), ...first.tokens, 270, 280];
          const next = await model.generate(text, { ...OPTIONS, logprobs: true }).result;
          assert.deepEqual(next.logprobs, (await plain.generate(text, { ...OPTIONS, logprobs: true }).result).logprobs);
        }),
      );
    });

    it("survives cancellations in the middle of prompts", async () => {
      await withModel({ path: file, parallel: 2, batchSize: 32, contextLength: 4096 }, async (model) => {
        const expected = (await model.generate(prompt(50, 3), OPTIONS).result).tokens;
        for (let i = 0; i < 20; i++) {
          const long = model.generate(prompt(4000, i), OPTIONS);
          setTimeout(() => long.cancel(), i / 2);
          const { tokens } = await model.generate(prompt(50, 3), OPTIONS).result;
          assert.deepEqual(tokens, expected);
          await long.result;
        }
      });
    });

    it(
      architecture === "mamba" ? "says that its sessions cannot be saved" : "saves and restores sessions",
      async () => {
        await withModel({ path: file }, async (model) => {
          const session = model.session(prompt(80));
          if (architecture === "mamba") {
            await assert.rejects(
              session.snapshot(),
              coldstartError("UNSUPPORTED_MODEL", /append\(\) them to a new session/),
            );
            return;
          }
          const snapshot = await session.snapshot();
          await withModel({ path: file }, async (other) => {
            const restored = other.session();
            await restored.restore(snapshot);
            const result = await restored.generate(prompt(5, 1), OPTIONS).result;
            assert.equal(result.usage.cachedTokens, 80);
            assert.deepEqual(result.tokens, (await session.generate(prompt(5, 1), OPTIONS).result).tokens);
          });
        });
      },
    );
  });
}
