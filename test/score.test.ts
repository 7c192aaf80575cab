import assert from "node:assert/strict";
import { loadModel } from "../lib/index.js";
import { coldstartError } from "./support/errors.js";
import { PROMPT, TINY_STORIES, withModel } from "./support/models.js";
import { writeStories } from "./support/stories.js";

/** Computed in batches of other sizes, logits differ a little: keys and values are kept in 16 bits. */
const ROUNDING = 5e-3;

function assertNear(actual: readonly number[], expected: readonly number[], most = ROUNDING): void {
  assert.equal(actual.length, expected.length);
  actual.forEach((value, i) =>
    assert.ok(Math.abs(value - expected[i]!) <= most * Math.max(1, Math.abs(value)), `${i}: ${value}, ${expected[i]}`),
  );
}

describe("model.score()", () => {
  it("finds each token as likely as generating it did", async () => {
    await withModel({}, async (model) => {
      const generated = await model.generate(PROMPT, { seed: 3, maxTokens: 60, logprobs: 1 }).result;
      const score = await model.score(generated.tokens, { given: await model.tokenize(PROMPT) });
      assert.deepEqual(score.tokens, generated.tokens);
      assertNear(
        score.logprobs,
        generated.logprobs!.map(({ logprob }) => logprob),
      );
      assert.deepEqual(
        score.likeliest,
        generated.logprobs!.map(({ top }) => top[0]!.token),
      );
      assert.ok(Math.abs(score.logprob - score.logprobs.reduce((sum, one) => sum + one)) < 1e-9);
      assert.ok(Math.abs(score.perplexity - Math.exp(-score.logprob / 60)) < 1e-9);
    });
  });

  it("scores the same alone, in any mode, and among others", async () => {
    const texts = await withModel({}, (model) =>
      Promise.all(Array.from({ length: 12 }, (_, i) => writeStories(model, 1).then((text) => text.slice(i * 7)))),
    );
    const alone = await withModel({ parallel: 1, prefixCache: false }, async (model) => {
      const all: number[][] = [];
      for (const text of texts) all.push((await model.score(text)).logprobs);
      return all;
    });
    for (const options of [{}, { kvCache: { layout: "split" } }, { deterministic: true }, { batchSize: 17 }] as const) {
      await withModel({ parallel: 4, ...options }, async (model) => {
        const busy = model.generate(PROMPT, { maxTokens: 100 });
        const together = await Promise.all(texts.map((text) => model.score(text)));
        together.forEach(({ logprobs }, i) => assertNear(logprobs, alone[i]!));
        await busy.result;
      });
    }
  });

  it("is bit for bit the same when deterministic, whatever is known already", async () => {
    await withModel({ deterministic: true, parallel: 4 }, async (model) => {
      const text = await writeStories(model, 1);
      const first = await model.score(text);
      const again = await Promise.all([model.score(text), model.score(text), model.score(text, { priority: 3 })]);
      for (const score of again) assert.deepEqual(score.logprobs, first.logprobs);
    });
  });

  it("computes what precedes several texts once", async () => {
    await withModel({ parallel: 4 }, async (model) => {
      const given = (await writeStories(model, 1)).slice(0, 300);
      await model.score(" The end.", { given });
      const score = await model.score(" But then it rained.", { given });
      assert.ok(score.cachedTokens >= score.givenTokens - 2, `${score.cachedTokens} of ${score.givenTokens}`);
      const fresh = await withModel({}, (other) => other.score(" But then it rained.", { given }));
      assertNear(score.logprobs, fresh.logprobs);
    });
  });

  it("tells the text from what precedes it, also where a token reaches over both", async () => {
    await withModel({}, async (model) => {
      const whole = await model.tokenize("Once upon a time");
      const score = await model.score("pon a time", { given: "Once u" });
      assert.deepEqual([...whole.slice(0, score.givenTokens), ...score.tokens], whole);
      const { length } = await model.tokenize("Once u");
      assert.ok(score.givenTokens <= length);
    });
  });

  it("scores in a process of its own", async () => {
    const here = await withModel({}, (model) => model.score(PROMPT));
    const apart = await withModel({ isolation: "process" }, (model) => model.score(PROMPT));
    assert.deepEqual(apart, here);
  });

  it("scores with a model that a batch may not cut", async () => {
    await withModel({ parallel: 2, batchSize: 8 }, async (model) => {
      const { logprobs } = await model.score(PROMPT);
      await withModel({}, async (other) => assertNear(logprobs, (await other.score(PROMPT)).logprobs));
    });
  });

  it("refuses what it cannot score", async () => {
    await withModel({}, async (model) => {
      await assert.rejects(model.score(""), coldstartError("INVALID_OPTION", /^text is ""/));
      await assert.rejects(model.score([5]), coldstartError("INVALID_OPTION", /nothing precedes/));
      await assert.rejects(model.score([5, 100_000]), coldstartError("INVALID_OPTION", /100000/));
      await assert.rejects(model.score(PROMPT, { given: "" }), coldstartError("INVALID_OPTION", /^given/));
      await assert.rejects(model.score("one day ".repeat(200)), coldstartError("CONTEXT_OVERFLOW"));
      await assert.rejects(
        model.score(PROMPT, { signal: AbortSignal.abort() }),
        coldstartError("ABORTED", /^Scoring was aborted/),
      );
      await assert.rejects(model.score(PROMPT, { from: 1 } as never), coldstartError("INVALID_OPTION", /from/));
      assert.equal(model.status().kvCache.atWork, 0);
    });
    const model = await loadModel(TINY_STORIES);
    await model.dispose();
    await assert.rejects(model.score(PROMPT), coldstartError("DISPOSED"));
  });
});
