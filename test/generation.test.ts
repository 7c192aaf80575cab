import assert from "node:assert/strict";
import { loadModel, type GenerateOptions, type GenerationChunk, type Model } from "../lib/index.js";
import { coldstartError } from "./support/errors.js";
import { PROMPT, TINY_STORIES, withModel } from "./support/models.js";

const GREEDY: GenerateOptions = { temperature: 0 };

async function collect(chunks: AsyncIterable<GenerationChunk>): Promise<GenerationChunk[]> {
  const all: GenerationChunk[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return all;
}

describe("generate", () => {
  let model: Model;
  before(async () => {
    model = await loadModel(TINY_STORIES, { threads: 1 });
  });
  after(() => model.dispose());

  describe("a generation", () => {
    it("gives chunks whose texts and tokens together are the result", async () => {
      const generation = model.generate(PROMPT, { seed: 1, maxTokens: 100 });
      const chunks = await collect(generation);
      const result = await generation.result;
      assert.ok(chunks.length > 1, "it streams");
      assert.equal(chunks.map(({ text }) => text).join(""), result.text);
      assert.deepEqual(
        chunks.flatMap(({ tokens }) => tokens),
        result.tokens,
      );
      const prompt = await model.tokenize(PROMPT);
      assert.equal(await model.detokenize([...prompt, ...result.tokens]), PROMPT + result.text);
      assert.equal(await generation.text(), result.text);
    });

    it("can be awaited without being read", async () => {
      const { text, usage } = await model.generate(PROMPT, { ...GREEDY, maxTokens: 10 }).result;
      assert.notEqual(text, "");
      assert.equal(usage.completionTokens, 10);
      assert.equal(usage.promptTokens, (await model.tokenize(PROMPT)).length);
    });

    it("gives the same chunks to a late reader", async () => {
      const generation = model.generate(PROMPT, { ...GREEDY, maxTokens: 20 });
      const { text, tokens } = await generation.result;
      assert.deepEqual(await collect(generation), [{ text, tokens }]);
    });

    it("is a web stream", async () => {
      const generation = model.generate(PROMPT, { ...GREEDY, maxTokens: 20 });
      const reader = generation.readable().getReader();
      let text = "";
      for (let part = await reader.read(); !part.done; part = await reader.read()) text += part.value.text;
      assert.equal(text, await generation.text());
    });

    it("is read once", async () => {
      const generation = model.generate(PROMPT, { maxTokens: 1 });
      await collect(generation);
      assert.throws(() => generation[Symbol.asyncIterator](), coldstartError("INVALID_OPTION", /second time/));
    });

    it("continues tokens as it continues their text", async () => {
      const tokens = await model.tokenize(PROMPT);
      const fromTokens = await model.generate(tokens, { ...GREEDY, maxTokens: 20 }).text();
      const fromArray = await model.generate(Int32Array.from(tokens), { ...GREEDY, maxTokens: 20 }).text();
      const fromText = await model.generate(PROMPT, { ...GREEDY, maxTokens: 20 }).text();
      assert.equal(fromTokens, fromText);
      assert.equal(fromArray, fromText);
    });

    it("tells how long it took", async () => {
      const { timings } = await model.generate(PROMPT, { ...GREEDY, maxTokens: 20 }).result;
      assert.ok(timings.queue >= 0 && timings.prefill > 0 && timings.decode > 0);
      assert.ok(Math.abs(timings.timeToFirstToken! - timings.queue - timings.prefill) < 0.001, "they add up");
      assert.ok(Math.abs(timings.tokensPerSecond! - (19 * 1000) / timings.decode) < 1e-6);
    });
  });

  describe("ends", () => {
    it("where the model says so", async () => {
      const { finishReason, text } = await model.generate(PROMPT, GREEDY).result;
      assert.equal(finishReason, "stop");
      assert.match(text, /\.$/, "a whole story");
    });

    it("at maxTokens", async () => {
      const { finishReason, tokens } = await model.generate(PROMPT, { ...GREEDY, maxTokens: 3 }).result;
      assert.equal(finishReason, "length");
      assert.equal(tokens.length, 3);
    });

    it("when the context is full", async () => {
      await withModel({ contextLength: 32 }, async (small) => {
        const { finishReason, usage } = await small.generate(PROMPT, GREEDY).result;
        assert.equal(finishReason, "context");
        assert.equal(usage.promptTokens + usage.completionTokens, 32);
      });
    });

    it("at a stop string, which is cut off even when it straddles tokens", async () => {
      const whole = await model.generate(PROMPT, { ...GREEDY, maxTokens: 60 }).result;
      // Every substring of some length that starts inside of a word, so that tokens are cut.
      for (let start = 3; start < 60; start += 7) {
        const stop = whole.text.slice(start, start + 9);
        const generation = model.generate(PROMPT, { ...GREEDY, maxTokens: 60, stop: [stop, "never"] });
        const chunks = await collect(generation);
        const result = await generation.result;
        assert.equal(result.finishReason, "stopString");
        assert.equal(result.stopString, stop);
        assert.equal(result.text, whole.text.slice(0, whole.text.indexOf(stop)));
        assert.equal(chunks.map(({ text }) => text).join(""), result.text, "nothing leaked");
      }
    });

    it("with all of the text when no stop string comes", async () => {
      const whole = await model.generate(PROMPT, GREEDY).result;
      const held = await model.generate(PROMPT, { ...GREEDY, stop: `${whole.text.slice(-4)}x` }).result;
      assert.equal(held.text, whole.text);
      assert.equal(held.finishReason, "stop");
    });
  });

  describe("UTF-8", () => {
    it("is never split, though the vocabulary spells emoji byte by byte", async () => {
      const spelled = "🦊 é 漢字 🎈👩‍👩‍👧!";
      const generation = model.generate(PROMPT, { grammar: `root ::= ${JSON.stringify(spelled)}`, seed: 1 });
      const chunks = await collect(generation);
      const { text, tokens } = await generation.result;
      assert.equal(text, spelled);
      assert.ok(tokens.length > spelled.length, "bytes");
      for (const chunk of chunks) assert.doesNotMatch(chunk.text, /�/);
      assert.ok(chunks.length >= 2 && chunks.length < tokens.length);
    });

    it("cut short at maxTokens ends with U+FFFD, not with half a character", async () => {
      const { text, tokens } = await model.generate(PROMPT, { grammar: 'root ::= "🦊"', maxTokens: 2 }).result;
      assert.equal(tokens.length, 2);
      assert.match(text, /^ ?�+$/);
    });
  });

  describe("seeds", () => {
    it("repeat a generation", async () => {
      const once = await model.generate(PROMPT, { seed: 7, temperature: 1.5 }).result;
      const again = await model.generate(PROMPT, { seed: 7, temperature: 1.5 }).result;
      const other = await model.generate(PROMPT, { seed: 8, temperature: 1.5 }).result;
      assert.deepEqual(again.tokens, once.tokens);
      assert.notDeepEqual(other.tokens, once.tokens);
    });

    it("are random by default, and told", async () => {
      const first = await model.generate(PROMPT, { temperature: 1.5 }).result;
      const second = await model.generate(PROMPT, { temperature: 1.5 }).result;
      assert.notEqual(first.seed, second.seed);
      assert.deepEqual(
        (await model.generate(PROMPT, { temperature: 1.5, seed: first.seed }).result).tokens,
        first.tokens,
      );
    });

    it("of the model repeat a whole run", async () => {
      const run = () =>
        withModel({ seed: 42 }, async (seeded) => {
          const results = [];
          for (let i = 0; i < 3; i++) results.push(await seeded.generate(PROMPT, { maxTokens: 20 }).result);
          return results.map(({ seed, tokens }) => ({ seed, tokens }));
        });
      const first = await run();
      assert.deepEqual(
        first.map(({ seed }) => seed),
        [42, 43, 44],
      );
      assert.deepEqual(await run(), first);
    });
  });

  describe("cancelling", () => {
    it("by a signal keeps the text so far", async () => {
      const controller = new AbortController();
      const generation = model.generate(PROMPT, { ...GREEDY, signal: controller.signal, logitBias: { 2: -Infinity } });
      const chunks: string[] = [];
      for await (const { text } of generation) {
        chunks.push(text);
        controller.abort();
      }
      const { finishReason, text } = await generation.result;
      assert.equal(finishReason, "aborted");
      assert.equal(text, chunks.join(""));
      assert.notEqual(text, "");
    });

    it("before the start computes nothing", async () => {
      const { finishReason, tokens, timings } = await model.generate(PROMPT, { signal: AbortSignal.abort() }).result;
      assert.equal(finishReason, "aborted");
      assert.deepEqual(tokens, []);
      assert.equal(timings.timeToFirstToken, undefined);
    });

    it("by leaving the loop or cancel() frees the sequence for others", async () => {
      for (let i = 0; i < 20; i++) {
        const generation = model.generate(PROMPT, { logitBias: { 2: -Infinity } });
        for await (const _chunk of generation) break;
        assert.equal((await generation.result).finishReason, "aborted");
        const other = model.generate(PROMPT, { logitBias: { 2: -Infinity } });
        other.cancel();
        assert.equal((await other.result).finishReason, "aborted");
      }
      assert.equal((await model.generate(PROMPT, { maxTokens: 200 }).result).usage.promptTokens, 7);
    });
  });

  describe("several at once", () => {
    it("each give what they give alone", async () => {
      const names = ["Mia", "Tom", "Lily", "Ben", "Sam", "Nina", "Max", "Anna", "Leo", "Zoe", "Tim", "Sue"];
      const prompts = names.map((name) => `Once there was a child named ${name}`);
      const alone: string[] = [];
      for (const prompt of prompts) alone.push(await model.generate(prompt, { ...GREEDY, maxTokens: 20 }).text());
      const together = await Promise.all(
        prompts.map((prompt) => model.generate(prompt, { ...GREEDY, maxTokens: 20 }).text()),
      );
      assert.deepEqual(together, alone);
    });

    it("wait when the context cannot hold them, and all finish", async () => {
      await withModel({ contextLength: 64, parallel: 3, batchSize: 16 }, async (small) => {
        const results = await Promise.all(
          Array.from(
            { length: 20 },
            (_, i) => small.generate(PROMPT, { maxTokens: 1 + ((i * 7) % 57), seed: i }).result,
          ),
        );
        for (const { finishReason } of results) assert.ok(["stop", "length"].includes(finishReason));
      });
    });
  });

  it("goes on while the JavaScript thread is blocked", async () => {
    const generation = model.generate(PROMPT, { maxTokens: 200, logitBias: { 2: -Infinity }, seed: 3 });
    const iterator = generation[Symbol.asyncIterator]();
    await iterator.next();
    const until = performance.now() + 500;
    while (performance.now() < until);
    const { value } = await iterator.next();
    assert.ok(value!.tokens.length > 1, "tokens sampled meanwhile come in one chunk");
    await generation.result;
  });

  it("leaves the process free to exit while a model is idle, and busy while it generates", async () => {
    const handles = () =>
      process.getActiveResourcesInfo().filter((name) => /TSFN|coldstart|ThreadSafe/i.test(name)).length;
    const before = handles();
    const generation = model.generate(PROMPT, { maxTokens: 5 });
    await generation.result;
    assert.equal(handles(), before);
  });
});
