// Guessing ahead with a model's own heads for multi-token prediction: the answers are those without it, whether the heads
// are right or not, and they are right only when they get the hidden states that belong to the text.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { isDeepStrictEqual } from "node:util";
import { loadModel, type GenerateOptions, type GenerationResult, type LoadOptions, type Model } from "../lib/index.js";
import { coldstartError } from "./support/errors.js";
import { rewriteGguf, type GgufDraft } from "./support/gguf-writer.js";
import { TINY_STORIES, withModel } from "./support/models.js";
import { assertSame } from "./support/results.js";
import { randomMtpModel, randomModelOf, type MtpArchitecture } from "./support/random-model.js";

const NO_END = { 2: -Infinity };
const GREEDY: GenerateOptions = { temperature: 0, maxTokens: 60, logitBias: NO_END, logprobs: 5 };

const folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
after(() => rmSync(folder, { recursive: true }));

function file(name: string, bytes: Uint8Array): string {
  const at = path.join(folder, name);
  writeFileSync(at, bytes);
  return at;
}

const prompt = (length: number, own = 0) => Array.from({ length }, (_, i) => 260 + ((i * 31 + own * 7) % 250));

/** Of the tokens after the first, those that were guessed right. */
function accepted(results: GenerationResult[]): number {
  const tokens = results.reduce((sum, { usage }) => sum + usage.completionTokens - 1, 0);
  return results.reduce((sum, { timings }) => sum + timings.acceptedTokens, 0) / tokens;
}

for (const architecture of ["glm4moe", "qwen35"] as MtpArchitecture[]) {
  for (const heads of ["right", "random"] as const) {
    describe(`heads for multi-token prediction: ${architecture}, ${heads} ones`, () => {
      let model: string;
      let plain: Model;
      // In F16, sums that differ in their last bits become keys that differ in the third digit: enough to choose an expert.
      const exact: LoadOptions = { kvCache: { keyType: "f32", valueType: "f32" } };
      const guessing: LoadOptions = {
        ...exact,
        speculative: { type: "mtp", draftTokens: 4, minProbability: 0 },
      };
      const right = heads === "right";
      /** With guesses of four tokens, four of five are guessed. */
      const many = (results: GenerationResult[], at = 0.7) => {
        if (right) assert.ok(accepted(results) > at, `accepted ${accepted(results)}`);
      };
      before(async () => {
        model = file(`${architecture}-${heads}.gguf`, randomMtpModel(architecture, heads));
        plain = await loadModel(model, { threads: 1, ...exact });
      });
      after(() => plain.dispose());

      const cases: Record<string, GenerateOptions> = {
        greedily: { temperature: 0, maxTokens: 120 },
        "to the end of the context": { temperature: 0, logitBias: NO_END },
        sampling: { temperature: 1, topK: 0, topP: 1, minP: 0, maxTokens: 100, logitBias: NO_END },
        "with penalties": { temperature: 1, maxTokens: 100, repeatPenalty: 1.3, presencePenalty: 0.5 },
        "with mirostat": { mirostat: { version: 2 }, maxTokens: 100 },
        "with a grammar": { grammar: 'root ::= ("a" | "b" | "c" | "d")+', maxTokens: 40 },
        shifting: { temperature: 0, maxTokens: 700, overflow: "shift", logitBias: NO_END },
      };
      it("give the same answers with all options", async () => {
        await withModel({ path: model, ...guessing }, async (ahead) => {
          let equal = 0;
          for (const [what, options] of Object.entries(cases)) {
            const results: GenerationResult[] = [];
            for (let seed = 0; seed < 3; seed++) {
              const text = prompt(3 + 30 * seed, seed);
              const expected = await plain.generate(text, { ...options, logprobs: 5, seed }).result;
              const result = await ahead.generate(text, { ...options, logprobs: 5, seed }).result;
              assertSame(result, expected, what);
              if (isDeepStrictEqual(result.tokens, expected.tokens)) {
                equal++;
                assert.equal(result.finishReason, expected.finishReason);
              }
              assert.ok(result.timings.acceptedTokens <= result.timings.guessedTokens);
              assert.ok(result.timings.guessedTokens > 0, what);
              results.push(result);
            }
            if (options.temperature === 0) many(results);
            else if (what === "sampling" && right) {
              const part = accepted(results);
              assert.ok(part > 0.1 && part < 0.7, `some were sampled otherwise: ${part}`);
            }
          }
          // But for near ties.
          assert.ok(equal >= 0.8 * 3 * Object.keys(cases).length, `${equal} are equal`);
        });
      });

      for (const [how, load] of Object.entries({
        together: {},
        "in a split KV cache": { kvCache: { ...exact.kvCache, layout: "split" } },
        "in deterministic mode": { deterministic: true, batchSize: 64 },
        "without a prefix cache": { prefixCache: false },
      } satisfies Record<string, LoadOptions>)) {
        it(`give many texts of different lengths what they have alone, ${how}, cancelled ones among them`, async () => {
          await withModel({ path: model, parallel: 6, ...guessing, ...load }, async (ahead) => {
            const requests = Array.from({ length: 24 }, (_, i) => ({ text: prompt(5 + 9 * (i % 7), i % 5), seed: i }));
            const options = (seed: number) => ({ ...GREEDY, temperature: seed % 3 === 0 ? 0.9 : 0, seed });
            const together = await Promise.all(
              requests.map(async ({ text, seed }) => {
                const generation = ahead.generate(text, options(seed));
                if (seed % 6 === 5) for await (const _chunk of generation) break;
                return generation.result;
              }),
            );
            for (const [i, { text, seed }] of requests.entries()) {
              assertSame(together[i]!, await plain.generate(text, options(seed)).result, `request ${i}`);
            }
            // Those that are greedy follow the circle.
            many(together.filter((_, i) => i % 3 !== 0 && i % 6 !== 5));
            assert.equal(ahead.status().kvCache.atWork, 0);
          });
        });
      }

      it("go on with prefixes from the cache", async () => {
        await withModel({ path: model, parallel: 3, ...guessing }, async (ahead) => {
          let text = prompt(80);
          for (let turn = 0; turn < 4; turn++) {
            const result = await ahead.generate(text, GREEDY).result;
            assert.deepEqual(result.tokens, (await plain.generate(text, GREEDY).result).tokens);
            assert.equal(result.usage.cachedTokens, turn === 0 ? 0 : text.length - 6);
            many([result]);
            // Another text takes a slot.
            await ahead.generate(prompt(30, turn + 1), { ...GREEDY, maxTokens: 5 }).result;
            text = [...text, ...result.tokens, ...prompt(5, turn)];
          }
          const forks = await Promise.all(
            [1, 2, 3].map((own) => ahead.generate([...text, ...prompt(4, own)], GREEDY).result),
          );
          for (const [i, fork] of forks.entries()) {
            const expected = await plain.generate([...text, ...prompt(4, i + 1)], GREEDY).result;
            assertSame(fork, expected);
            many([fork]);
          }
        });
      });

      it("go on with sessions: forked, saved, and restored where the heads have not seen them", async function () {
        await withModel({ path: model, ...guessing }, async (ahead) => {
          const session = ahead.session();
          await session.append(prompt(69));
          const fork = session.fork();
          const expected = await plain.generate(prompt(70), GREEDY).result;
          const results = await Promise.all(
            [session, fork].map((one) => one.generate([prompt(70)[69]!], GREEDY).result),
          );
          for (const result of results) assertSame(result, expected);
          many(results);

          if (architecture === "qwen35") return;
          const saved = ahead.session();
          await saved.append(prompt(70));
          const snapshot = await saved.snapshot();
          await withModel({ path: model, ...guessing }, async (other) => {
            const restored = other.session();
            await restored.restore(snapshot);
            const result = await restored.generate(prompt(3, 2), GREEDY).result;
            assert.equal(result.usage.cachedTokens, 70);
            const text = [...prompt(70), ...prompt(3, 2)];
            assert.deepEqual(result.tokens, (await plain.generate(text, GREEDY).result).tokens);
            many([result]);
          });
        });
      });

      it("survive a cache too small for all, and texts that only the model keeps once", async () => {
        const load: LoadOptions = { parallel: 8, contextLength: 256, kvCache: { ...exact.kvCache, capacity: 512 } };
        await withModel({ ...guessing, ...load, path: model }, async (ahead) => {
          const options = { ...GREEDY, maxTokens: 180 };
          // The same text eight times takes the room of one, but not in the memory of the heads.
          const same = await Promise.all(Array.from({ length: 8 }, () => ahead.generate(prompt(40), options).result));
          const expected = await plain.generate(prompt(40), options).result;
          for (const result of same) assertSame(result, expected);
          many(same, 0.5);
          const different = await Promise.all(
            Array.from({ length: 12 }, (_, i) => ahead.generate(prompt(40, i), { ...options, priority: i % 3 }).result),
          );
          for (const [i, result] of different.entries()) {
            assertSame(result, await plain.generate(prompt(40, i), options).result);
          }
          if (architecture === "glm4moe") assert.ok(different.some(({ timings }) => timings.preemptions > 0));
        });
      });

      it("survive cancellations in the middle of prompts and guesses", async () => {
        await withModel({ path: model, parallel: 2, batchSize: 32, ...guessing }, async (ahead) => {
          const expected = await plain.generate(prompt(50, 3), GREEDY).result;
          for (let i = 0; i < 20; i++) {
            const long = ahead.generate(prompt(400, i), { ...GREEDY, maxTokens: 100 });
            setTimeout(() => long.cancel(), i / 2);
            assertSame(await ahead.generate(prompt(50, 3), GREEDY).result, expected);
            await long.result;
          }
        });
      });

      it("fit into the smallest contexts, with the longest guesses", async () => {
        for (const contextLength of [1, 2, 3, 8, 100]) {
          const load: LoadOptions = {
            contextLength,
            speculative: { type: "mtp", draftTokens: 64, minProbability: 0 },
            ...exact,
          };
          await withModel({ path: model, ...load }, async (ahead) => {
            if (contextLength === 1) return;
            const { tokens } = await ahead.generate([300], { temperature: 0, logitBias: NO_END }).result;
            const expected = await plain.generate([300], { ...GREEDY, maxTokens: contextLength - 1 }).result;
            assert.deepEqual(tokens, expected.tokens);
          });
        }
      });
    });
  }
}

describe("heads for multi-token prediction", () => {
  const speculative = { type: "mtp" } as const;
  const edited = (name: string, edit: (draft: GgufDraft) => void) =>
    file(name, rewriteGguf(randomMtpModel("glm4moe", "random"), edit));

  it("are refused where there are none, or none that llama.cpp can run", async () => {
    const refused: [string, RegExp][] = [
      [TINY_STORIES, /has no heads .* llama\.nextn_predict_layers/],
      [file("mamba.gguf", randomModelOf("mamba")), /has no heads/],
      [
        edited("lost.gguf", ({ tensors }) => {
          tensors.splice(0, tensors.length, ...tensors.filter(({ name }) => !(name as string).startsWith("blk.2.")));
        }),
        /blk\.2\.nextn\.eh_proj\.weight is not in it/,
      ],
      [
        edited("incomplete.gguf", ({ tensors }) => {
          tensors.splice(0, tensors.length, ...tensors.filter(({ name }) => name !== "blk.2.ffn_gate_inp.weight"));
        }),
        /blk\.2\.ffn_gate_inp\.weight is not in it/,
      ],
      [
        edited("two.gguf", ({ metadata }) => {
          for (const entry of metadata)
            if (entry.key === "glm4moe.nextn_predict_layers" && "value" in entry) entry.value = 2;
        }),
        /and this one has 2/,
      ],
      [
        file(
          "gemma2.gguf",
          rewriteGguf(randomModelOf("gemma2"), ({ metadata }) => {
            metadata.push({ key: "gemma2.nextn_predict_layers", type: "uint32", value: 1 });
          }),
        ),
        /architecture 'gemma2'/,
      ],
    ];
    for (const [model, message] of refused) {
      await assert.rejects(loadModel(model, { speculative }), coldstartError("UNSUPPORTED_MODEL", message));
    }
    // Without them, the model that has lost its heads is like any other.
    await withModel({ path: refused[2]![0] }, async (model) => {
      assert.equal((await model.generate(prompt(5), GREEDY).result).tokens.length, 60);
    });
  });

  it("alone are no model", async () => {
    const alone = edited("alone.gguf", ({ tensors }) => {
      tensors.splice(0, tensors.length, ...tensors.filter(({ name }) => !/^blk\.[01]\./.test(name as string)));
    });
    for (const load of [{}, { speculative }]) {
      await assert.rejects(loadModel(alone, load), coldstartError("UNSUPPORTED_MODEL", /not its other layers/));
    }
  });
});
