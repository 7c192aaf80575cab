import assert from "node:assert/strict";
import { Worker } from "node:worker_threads";
import { loadModel, type Model } from "../lib/index.js";
import { PROMPT, STORIES_260K, TINY_STORIES, withModel } from "./support/models.js";
import { runFixture } from "./support/processes.js";

describe("life cycle", () => {
  it("frees everything: memory stays put over many rounds of load, generate, dispose", async () => {
    const round = () =>
      withModel({ loadMode: "copy" }, async (model) => {
        const running = model.generate(PROMPT, { logitBias: { 2: -Infinity } });
        await model.generate(PROMPT, { maxTokens: 5 }).result;
        running.result.catch(() => undefined); // Disposed under way.
      });
    const rss = () => {
      globalThis.gc!();
      return process.memoryUsage().rss / 2 ** 20;
    };
    for (let i = 0; i < 20; i++) await round();
    const before = rss();
    for (let i = 0; i < 60; i++) await round();
    // A leaked model would be 60 times 4 MiB of weights and more.
    assert.ok(rss() - before < 25, `grew from ${before.toFixed(0)} to ${rss().toFixed(0)} MiB`);
  });

  it("runs several models at once", async () => {
    const paths = [TINY_STORIES, STORIES_260K ?? TINY_STORIES, TINY_STORIES];
    const models = await Promise.all(paths.map((file) => loadModel(file, { threads: 1, contextLength: 256 })));
    const texts = await Promise.all(
      models.map((model) => model.generate(PROMPT, { temperature: 0, maxTokens: 40 }).text()),
    );
    assert.equal(texts[0], texts[2]);
    assert.ok(texts.every((text) => text.length > 20));
    await Promise.all(models.map((model) => model.dispose()));
  });

  it("disposes with await using", async () => {
    let kept: Model;
    {
      await using model = await loadModel(TINY_STORIES);
      kept = model;
      assert.equal(kept.disposed, false);
    }
    assert.equal(kept.disposed, true);
  });

  it("works in worker threads, several at a time", async () => {
    const url = new URL("fixtures/worker.mjs", import.meta.url);
    const texts = await Promise.all(
      [1, 2, 3].map(
        () =>
          new Promise((resolve, reject) => {
            const worker = new Worker(url);
            let text: unknown;
            worker.on("message", (message: unknown) => (text = message));
            worker.on("error", reject);
            worker.on("exit", (code) => (code === 0 ? resolve(text) : reject(new Error(`exit ${code}`))));
          }),
      ),
    );
    const here = await withModel({}, (model) => model.generate(PROMPT, { temperature: 0, maxTokens: 30 }).text());
    assert.deepEqual(texts, [here, here, here]);
  });

  it("survives workers terminated while they load and generate", async () => {
    const url = new URL("fixtures/worker.mjs", import.meta.url);
    for (let delay = 0; delay < 200; delay += 20) {
      const worker = new Worker(url, { argv: ["forever"] });
      await new Promise((resolve) => setTimeout(resolve, delay));
      await worker.terminate();
    }
  });

  for (const stage of ["loading", "idle", "generating", "disposing", "uncaught"]) {
    it(`lets the process exit cleanly while ${stage}`, async () => {
      // More than once: what may go wrong is a matter of microseconds.
      for (let round = 0; round < 10; round++) {
        const { code, signal, out, err } = await runFixture("exit.mjs", [stage]);
        assert.equal(signal, null, err);
        assert.equal(code, stage === "uncaught" ? 1 : 0, err);
        assert.match(out, /reached/);
      }
    });
  }

  it("lets a process end by itself when a model lies idle", async () => {
    const { code, signal, out } = await runFixture("exit.mjs", ["forgotten"]);
    assert.deepEqual({ code, signal }, { code: 0, signal: null });
    assert.match(out, /reached/);
  });

  it("collects a model that was forgotten without dispose", async () => {
    const { code, out, err } = await runFixture("collect.mjs");
    assert.equal(code, 0, err);
    const { before, after } = JSON.parse(out) as { before: number; after: number };
    assert.ok(before >= 10 && after <= 2, `${before} models mapped, ${after} after collection`);
  });
});
