// Many requests of all kinds at a time: none is lost, none disturbs another, and nothing is left behind.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import fc from "fast-check";
import { loadModel, type GenerateOptions, type LoadOptions, type Model } from "../lib/index.js";
import { TINY_STORIES } from "./support/models.js";
import { randomMtpModel } from "./support/random-model.js";

const REQUESTS = 1000;

/** Parts of prompts: requests share some of them, in order, so that they have prefixes of many lengths in common. */
const PARTS = [
  "Once there was a girl named Mia.",
  " She had a red ball.",
  " One day she went to the park.",
  " The ball was lost.",
  " She was sad.",
];

interface Kind {
  parts: number;
  own: number;
  maxTokens: number;
  /** Cancelled after so many chunks; undefined: never. */
  cancelAfter: number | undefined;
}

const kind: fc.Arbitrary<Kind> = fc.record({
  parts: fc.integer({ min: 1, max: PARTS.length }),
  own: fc.nat(30),
  maxTokens: fc.integer({ min: 1, max: 80 }),
  cancelAfter: fc.option(fc.nat(6), { nil: undefined, freq: 3 }),
});

async function prompts(model: Model, kinds: Kind[]): Promise<number[][]> {
  const beginnings = await Promise.all(PARTS.map((_, i) => model.tokenize(PARTS.slice(0, i + 1).join(""))));
  return kinds.map(({ parts, own }) => [
    ...beginnings[parts - 1]!,
    ...Array.from({ length: own }, (_, i) => 300 + ((own * 17 + i * 31) % 200)),
  ]);
}

function options({ maxTokens }: Kind): GenerateOptions {
  return { temperature: 0, maxTokens, logitBias: { 2: -Infinity } };
}

/** The tokens that came, all of them when it was not cancelled. */
async function run(model: Model, prompt: number[], one: Kind): Promise<number[]> {
  const generation = model.generate(prompt, options(one));
  const tokens: number[] = [];
  let chunks = 0;
  if (one.cancelAfter === 0) generation.cancel();
  for await (const chunk of generation) {
    tokens.push(...chunk.tokens);
    if (++chunks === one.cancelAfter) generation.cancel();
  }
  const result = await generation.result;
  assert.deepEqual(tokens, result.tokens);
  assert.equal(result.finishReason, result.tokens.length < one.maxTokens ? "aborted" : "length");
  return tokens;
}

async function stress(load: LoadOptions, seed: number, file = TINY_STORIES): Promise<void> {
  const model = await loadModel(file, { threads: 1, maxQueue: REQUESTS, ...load });
  const kinds = fc.sample(kind, { numRuns: REQUESTS, seed });
  const texts = await prompts(model, kinds);
  const together = await Promise.all(kinds.map((one, i) => run(model, texts[i]!, one)));

  // Everything is free or kept for later …
  while (model.status().running > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const { kvCache, running, waiting } = model.status();
  assert.deepEqual([running, waiting, kvCache.atWork], [0, 0, 0]);
  assert.ok(kvCache.used <= kvCache.capacity);
  // … and llama.cpp has as much room as that says: prompts take all of it, which works only if no cell was lost.
  const { contextLength } = model.placement;
  const fill = Math.floor(kvCache.capacity / contextLength);
  const fillers = Array.from({ length: fill }, (_, k) =>
    model.generate(
      Array.from({ length: contextLength - 1 }, (_, i) => 300 + ((i * 7 + k) % 200)),
      { maxTokens: 1, logitBias: { 2: -Infinity } },
    ),
  );
  for (const { result } of fillers) assert.equal((await result).usage.completionTokens, 1);

  // Each has the tokens that it has alone.
  let checked = 0;
  let ties = 0;
  for (const [i, one] of kinds.entries()) {
    const alone = (await model.generate(texts[i]!, options(one)).result).tokens;
    const got = together[i]!;
    const same = got.findIndex((token, k) => token !== alone[k]);
    if (load.deterministic || same < 0) assert.deepEqual(got, alone.slice(0, got.length), `request ${i}`);
    else {
      // Sums are rounded otherwise in company: of two tokens that are as likely, the other one may be taken.
      const before = [...texts[i]!, ...alone.slice(0, same)];
      const { logprobs } = await model.generate(before, { ...options(one), maxTokens: 1, logprobs: 5 }).result;
      const likely = logprobs![0]!.top.filter(({ logprob }) => logprob > logprobs![0]!.top[0]!.logprob - 1e-3);
      assert.ok(likely.some(({ token }) => token === got[same]), `request ${i}, token ${same}`); // prettier-ignore
      ties++;
    }
    checked += got.length;
  }
  assert.ok(checked > 10 * REQUESTS);
  assert.ok(ties <= REQUESTS / 100, `${ties} near ties`);
  await model.dispose();
}

const folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
after(() => rmSync(folder, { recursive: true }));

describe(`${REQUESTS} requests of random lengths, beginnings and cancellations`, () => {
  it("deterministic: end with the tokens they have alone", () =>
    stress({ deterministic: true, parallel: 32, batchSize: 64 }, 1)).timeout(180_000);

  it("in a unified KV cache too small for all, guessing ahead, with prefixes in main memory: likewise", () =>
    stress(
      {
        parallel: 32,
        kvCache: { capacity: 1024, spill: { bytes: 4 * 2 ** 20 } },
        speculative: { type: "lookup", match: 2 },
      },
      2,
    )).timeout(180_000);

  for (const architecture of ["glm4moe", "qwen35"] as const) {
    it(`guessing ahead with the heads of a model of the architecture ${architecture}: likewise`, async () => {
      const file = path.join(folder, `${architecture}.gguf`);
      // Of random heads guesses are wrong, and texts have many near ties.
      writeFileSync(file, randomMtpModel(architecture, "right"));
      const kvCache = { capacity: 1024, keyType: "f32", valueType: "f32" } as const;
      await stress(
        { parallel: 32, contextLength: 256, kvCache, speculative: { type: "mtp", draftTokens: 5 } },
        4,
        file,
      );
    }).timeout(180_000);
  }

  it("over 64 sequences in a large unified KV cache: likewise", () =>
    stress({ parallel: 64, kvCache: { capacity: 4096 } }, 4)).timeout(180_000);

  it("in a split KV cache: likewise", () => stress({ parallel: 32, kvCache: { layout: "split" } }, 3)).timeout(180_000);
});
