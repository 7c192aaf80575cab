// Quantized weights: whole prompts go through other kernels than single tokens (matrix extensions of the CPU, repacked
// weights), and both must agree.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { withModel } from "./support/models.js";
import { Q4_0, randomModel } from "./support/random-model.js";

describe("a model with 4-bit weights", () => {
  let folder: string;
  let file: string;
  before(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
    file = path.join(folder, "q4_0.gguf");
    writeFileSync(
      file,
      randomModel({
        type: Q4_0,
        vocabulary: 1024,
        width: 256,
        feedForward: 512,
        layers: 2,
        heads: 4,
        keyValueHeads: 2,
        contextLength: 1024,
        tied: false,
      }),
    );
  });
  after(() => rmSync(folder, { recursive: true }));

  const prompt = Array.from({ length: 200 }, (_, i) => 300 + ((i * 7919) % 700));

  /** Of the 20 most likely tokens. */
  async function logprobs(length: number, batchSize: number): Promise<Map<number, number>> {
    return withModel({ path: file, batchSize }, async (model) => {
      const options = { maxTokens: 1, temperature: 0, logprobs: 20 };
      const result = await model.generate(prompt.slice(0, length), options).result;
      return new Map(result.logprobs![0]!.top.map(({ token, logprob }) => [token, logprob]));
    });
  }

  it("gives the same tokens, and log-probabilities bit by bit, with any number of threads", async () => {
    const run = (threads: number) =>
      withModel({ path: file, threads, contextLength: 1024 }, async (model) => {
        const long = Array.from({ length: 700 }, (_, i) => 300 + ((i * 7919) % 700));
        const { tokens, logprobs } = await model.generate(long, { maxTokens: 40, seed: 3, logprobs: 5 }).result;
        return { tokens, logprobs };
      });
    const one = await run(1);
    for (const threads of [2, 3]) assert.deepEqual(await run(threads), one);
  });

  for (const length of [2, 15, 16, 17, 33, 64, 200]) {
    it(`computes a prompt of ${length} tokens at once as token by token`, async () => {
      const atOnce = await logprobs(length, 512);
      const single = await logprobs(length, 1);
      // The last of the 20 may be equally likely as the next.
      const both = [...atOnce].filter(([token]) => single.has(token));
      assert.ok(both.length >= 18);
      const apart = Math.max(...both.map(([token, logprob]) => Math.abs(logprob - single.get(token)!)));
      assert.ok(apart < 0.15, `log-probabilities are ${apart} apart`);
    });
  }
});
