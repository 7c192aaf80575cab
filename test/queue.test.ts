// Who runs when, and what happens at the limits of the context and the queue.

import assert from "node:assert/strict";
import { loadModel, type GenerateOptions, type GenerationResult } from "../lib/index.js";
import { coldstartError } from "./support/errors.js";
import { PROMPT, TINY_STORIES, withModel } from "./support/models.js";

const ENDLESS: GenerateOptions = { temperature: 0, logitBias: { 2: -Infinity } };

describe("the queue", () => {
  it("starts generations in the order they came", async () => {
    await withModel({ parallel: 1 }, async (model) => {
      const order: number[] = [];
      const prompt = await model.tokenize(PROMPT);
      const all = Array.from({ length: 10 }, (_, i) =>
        model.generate(prompt, { maxTokens: 5 }).result.then(() => order.push(i)),
      );
      await Promise.all(all);
      assert.deepEqual(order, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    });
  });

  it("starts those of higher priority first", async () => {
    await withModel({ parallel: 1 }, async (model) => {
      const order: string[] = [];
      const prompt = await model.tokenize(PROMPT);
      const run = (name: string, priority: number, options: GenerateOptions = { maxTokens: 20 }) =>
        model.generate(prompt, { ...options, priority }).result.then(() => order.push(name));
      // It goes on until all others are there.
      const first = run("first", 0, { ...ENDLESS, maxTokens: 200 });
      await Promise.all([first, run("low", -1), run("a", 0), run("high", 7), run("b", 0), run("higher", 8)]);
      assert.deepEqual(
        order.slice(1),
        ["higher", "high", "first", "a", "b", "low"].filter((name) => name !== order[0]),
      );
    });
  });

  it("has a bound, past which generations fail at once", async () => {
    await withModel({ parallel: 1, maxQueue: 2 }, async (model) => {
      const prompt = await model.tokenize(PROMPT);
      const all = Array.from({ length: 6 }, () => model.generate(prompt, { ...ENDLESS, maxTokens: 200 }).result);
      const settled = await Promise.allSettled(all);
      assert.deepEqual(
        settled.map(({ status }) => status),
        ["fulfilled", "fulfilled", "fulfilled", "rejected", "rejected", "rejected"],
      );
      for (const outcome of settled.slice(3)) {
        coldstartError("QUEUE_FULL", /2 requests wait.*maxQueue/)((outcome as PromiseRejectedResult).reason as Error);
      }
    });
    await withModel({ parallel: 1, maxQueue: 0 }, async (model) => {
      assert.equal((await model.generate(PROMPT, { maxTokens: 3 }).result).usage.completionTokens, 3);
    });
  });

  it("has its bound also while one that gave way waits in it", async () => {
    await withModel({ parallel: 2, maxQueue: 2, kvCache: { capacity: 256 } }, async (model) => {
      const prompt = await model.tokenize(PROMPT);
      const endless = (priority: number) => model.generate(prompt, { ...ENDLESS, overflow: "shift", priority });
      const running = [endless(0), endless(1)];
      while (model.status().waiting < 1) await new Promise((resolve) => setTimeout(resolve, 1));
      const more = Array.from({ length: 20 }, () => model.generate(prompt, { maxTokens: 1, priority: 1 }));
      for (const generation of running) setTimeout(() => generation.cancel(), 100);
      const settled = await Promise.allSettled(more.map(({ result }) => result));
      assert.ok(settled.filter(({ status }) => status === "rejected").length >= 15);
      await Promise.all(running.map(({ result }) => result));
    });
  });

  it("runs as many as there may be, all sequences at work and one prefix shared", async () => {
    await withModel({ parallel: 254, maxQueue: 1000, kvCache: { capacity: 30_000 } }, async (model) => {
      await model.generate([600, 5, 6, 7, 8], { maxTokens: 3 }).result;
      const all = Array.from({ length: 253 }, (_, i) => model.generate([300 + i, 7], { ...ENDLESS, maxTokens: 60 }));
      while (model.status().running < 253) await new Promise((resolve) => setTimeout(resolve, 1));
      await model.generate([600, 5, 9], { maxTokens: 3 }).result;
      for (const { result } of all) assert.equal((await result).usage.completionTokens, 60);
    });
  });

  it("says how many run and wait", async () => {
    await withModel({ parallel: 2, contextLength: 8192 }, async (model) => {
      const prompt = await model.tokenize(PROMPT);
      const all = Array.from({ length: 5 }, () => model.generate(prompt, ENDLESS));
      while (model.status().waiting < 3) await new Promise((resolve) => setTimeout(resolve, 1));
      const { running, waiting, kvCache } = model.status();
      assert.deepEqual({ running, waiting }, { running: 2, waiting: 3 });
      assert.ok(kvCache.atWork > 0 && kvCache.atWork <= kvCache.used && kvCache.used <= kvCache.capacity);
      for (const generation of all) generation.cancel();
      await Promise.all(all.map(({ result }) => result));
      await new Promise((resolve) => setTimeout(resolve, 20));
      assert.deepEqual([model.status().running, model.status().waiting, model.status().kvCache.atWork], [0, 0, 0]);
    });
  });

  it("cancels waiting generations, and those whose prompt is being computed", async () => {
    await withModel({ parallel: 1, contextLength: 8192, batchSize: 64 }, async (model) => {
      const long = Array.from({ length: 8000 }, (_, i) => 300 + (i % 200));
      const inPrefill = model.generate(long, ENDLESS);
      const waiting = model.generate(PROMPT, ENDLESS);
      await new Promise((resolve) => setTimeout(resolve, 30));
      waiting.cancel();
      inPrefill.cancel();
      const results: GenerationResult[] = await Promise.all([inPrefill.result, waiting.result]);
      for (const { finishReason, tokens } of results)
        assert.deepEqual({ finishReason, tokens }, { finishReason: "aborted", tokens: [] });
      // What was computed of the prompt is still there.
      const again = await model.generate(long, { maxTokens: 1 }).result;
      assert.ok(again.usage.cachedTokens > 0 && again.usage.cachedTokens < 8000, `${again.usage.cachedTokens}`);
    });
  });
});

describe("a text that does not fit the context", () => {
  const long = `${"The cat sat on the mat and looked at the dog. ".repeat(12)}Once upon a time`;

  it("is refused before anything is computed", async () => {
    await withModel({ contextLength: 64 }, async (model) => {
      await assert.rejects(model.generate(long).result, coldstartError("CONTEXT_OVERFLOW", /or set overflow/));
      await assert.rejects(model.generate(PROMPT, { maxTokens: 60 }).result, coldstartError("CONTEXT_OVERFLOW"));
      const refused = coldstartError("CONTEXT_OVERFLOW", /larger contextLength\.$/);
      await assert.rejects(model.generate(long, { overflow: "stop" }).result, refused);
      assert.equal(model.status().steps, 0);
    });
  });

  it('ends where the context is full, with overflow: "stop"', async () => {
    await withModel({ contextLength: 64 }, async (model) => {
      const { finishReason, usage } = await model.generate(PROMPT, { ...ENDLESS, maxTokens: 500, overflow: "stop" })
        .result;
      assert.equal(finishReason, "context");
      assert.equal(usage.promptTokens + usage.completionTokens, 64);
    });
  });

  it('goes on without its older half, with overflow: "shift", as if it had begun there', async () => {
    await withModel({ contextLength: 64 }, async (model) => {
      const { finishReason, usage, tokens } = await model.generate(PROMPT, {
        ...ENDLESS,
        maxTokens: 150,
        overflow: "shift",
      }).result;
      assert.equal(finishReason, "length");
      assert.equal(usage.completionTokens, 150);
      assert.ok(usage.droppedTokens > 90 && usage.droppedTokens < 150, `${usage.droppedTokens}`);
      // The same, step by step: what is kept is beginning-of-text and the newer half of the rest.
      let text = await model.tokenize(PROMPT);
      const expected: number[] = [];
      while (expected.length < 150) {
        const part = await model.generate(text, {
          ...ENDLESS,
          maxTokens: Math.min(64 - text.length, 150 - expected.length),
        }).result;
        expected.push(...part.tokens);
        text = [...text, ...part.tokens];
        text = [text[0]!, ...text.slice(1 + Math.floor((text.length - 1) / 2))];
      }
      assert.deepEqual(tokens, expected);
    });
  });

  it('begins with its newer part, with overflow: "shift"', async () => {
    await withModel({ contextLength: 64 }, async (model) => {
      const { usage, finishReason } = await model.generate(long, { ...ENDLESS, maxTokens: 5, overflow: "shift" })
        .result;
      assert.equal(finishReason, "length");
      assert.ok(usage.promptTokens - usage.droppedTokens < 64);
    });
  });

  it('loses its middle, with overflow: "truncateMiddle"', async () => {
    await withModel({ contextLength: 64 }, async (model) => {
      const tokens = await model.tokenize(long);
      const options: GenerateOptions = { ...ENDLESS, maxTokens: 20, overflow: "truncateMiddle" };
      const { usage, tokens: answer } = await model.generate(long, options).result;
      assert.deepEqual([usage.promptTokens, usage.droppedTokens], [tokens.length, tokens.length - 44]);
      const kept = [...tokens.slice(0, 22), ...tokens.slice(-22)];
      assert.deepEqual(answer, (await model.generate(kept, { ...ENDLESS, maxTokens: 20 }).result).tokens);
    });
  });
});

describe("deterministic: true", () => {
  it("gives the same tokens whatever else runs", async () => {
    const model = await loadModel(TINY_STORIES, { threads: 1, deterministic: true, parallel: 6, batchSize: 32 });
    const text =
      "Once there was a girl named Mia. She had a red ball and a small dog. One day the dog ran away and Mia went to look for it in the garden and in the house. ";
    const request = (i: number) =>
      model.generate(text.slice(0, 110 + (i % 5) * 11), { seed: i, temperature: 1.2, maxTokens: 60, logprobs: true });
    const alone: GenerationResult[] = [];
    for (let i = 0; i < 20; i++) alone.push(await request(i).result);
    const together = await Promise.all(Array.from({ length: 20 }, (_, i) => request(i).result));
    for (let i = 0; i < 20; i++) {
      assert.deepEqual(together[i]!.tokens, alone[i]!.tokens);
      // Not only the tokens: what they were chosen by is equal bit by bit.
      assert.deepEqual(together[i]!.logprobs, alone[i]!.logprobs);
    }
    assert.ok(
      together.some(({ usage }) => usage.cachedTokens > 0),
      "with the prefix cache at work",
    );
    await model.dispose();
  });

  it("does not use what others are decoding", async () => {
    const model = await loadModel(TINY_STORIES, { threads: 1, deterministic: true, batchSize: 16, parallel: 3 });
    const first = model.generate("One day,", { temperature: 0, logitBias: { 2: -Infinity } });
    const tokens = [...(await model.tokenize("One day,"))];
    for await (const chunk of first) {
      tokens.push(...chunk.tokens);
      if (tokens.length >= 60) break;
    }
    const request = () => model.generate(tokens.slice(0, 60), { temperature: 0, maxTokens: 20, logprobs: true }).result;
    const running = model.generate("One day,", { temperature: 0, logitBias: { 2: -Infinity } });
    for await (const chunk of running) if (chunk.tokens.length > 0 && model.status().kvCache.atWork > 100) break;
    const beside = await request();
    await running.result;
    const fresh = await loadModel(TINY_STORIES, { threads: 1, deterministic: true, batchSize: 16, parallel: 3 });
    const alone = await fresh.generate(tokens.slice(0, 60), { temperature: 0, maxTokens: 20, logprobs: true }).result;
    assert.deepEqual(beside.logprobs, alone.logprobs);
    await Promise.all([model.dispose(), fresh.dispose()]);
  });

  it("takes no unified layout", () =>
    assert.rejects(
      loadModel(TINY_STORIES, { deterministic: true, kvCache: { layout: "unified" } }),
      coldstartError("INVALID_OPTION", /split when deterministic/),
    ));
});
