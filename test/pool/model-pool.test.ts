// Several models in one process: real ones, with limits that only some of them fit.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import fc from "fast-check";
import { ModelPool, planModel, type Lease, type PoolOptions } from "../../lib/index.js";
import { coldstartError } from "../support/errors.js";
import { TINY_ENCODER, randomEncoder } from "../support/embedding-model.js";
import { TINY_STORIES } from "../support/models.js";
import { temporaryFolder } from "../support/temporary-folder.js";

const OPTIONS = { threads: 1, contextLength: 128, parallel: 1, gpuLayers: 0 };

/** What one of them takes of the host's memory. */
async function bytesOfOne(): Promise<number> {
  const { devices } = await planModel(TINY_STORIES, OPTIONS);
  return devices.reduce((sum, { weights, kvCache, compute }) => sum + weights + kvCache + compute, 0);
}

describe("ModelPool", function () {
  this.timeout(60_000);
  const folder = temporaryFolder();
  let one = 0;
  before(async () => {
    one = await bytesOfOne();
  });

  const withPool = async (options: PoolOptions, body: (pool: ModelPool, events: string[]) => Promise<void>) => {
    const models = Object.fromEntries(["a", "b", "c"].map((name) => [name, { path: TINY_STORIES, ...OPTIONS }]));
    const pool = new ModelPool({ models, ...options });
    const events: string[] = [];
    pool.on("load", ({ name }) => events.push(`load ${name}`));
    pool.on("unload", ({ name, reason }) => events.push(`unload ${name}, ${reason}`));
    try {
      await body(pool, events);
    } finally {
      await pool.dispose();
    }
  };
  const stateOf = (pool: ModelPool, name: string) => pool.list().find((entry) => entry.name === name);

  it("loads models when they are asked for, once for all who ask", async () => {
    await withPool({}, async (pool, events) => {
      assert.deepEqual(
        pool.list().map(({ name, state }) => [name, state]),
        ["a", "b", "c"].map((name) => [name, "unloaded"]),
      );
      const leases = await Promise.all([pool.acquire("a"), pool.acquire("a"), pool.acquire("b")]);
      assert.equal(leases[0].model, leases[1].model);
      assert.notEqual(leases[0].model, leases[2].model);
      assert.deepEqual(events, ["load a", "load b"]);
      assert.equal(stateOf(pool, "a")?.users, 2);
      assert.ok((stateOf(pool, "a")?.bytes["CPU"] ?? 0) > 1e6);
      const text = await pool.use("a", (model) => model.generate("One day,", { maxTokens: 5 }).text());
      assert.ok(text.length > 0);
      for (const lease of leases) lease.release();
      leases[0].release();
      assert.equal(stateOf(pool, "a")?.users, 0);
      assert.equal(stateOf(pool, "a")?.state, "loaded");
      assert.ok((stateOf(pool, "a")?.expires ?? 0) > Date.now());
    });
  });

  it("makes room with those that were not used the longest, and never takes more than its limit", async () => {
    const limits = { CPU: 2.6 * one };
    await withPool({ memory: { limits } }, async (pool, events) => {
      await pool.use("a", () => undefined);
      await pool.use("b", () => undefined);
      await pool.use("a", () => undefined);
      await pool.use("c", () => undefined);
      assert.deepEqual(events, ["load a", "load b", "unload b, evicted", "load c"]);
      const taken = pool.list().reduce((sum, { bytes }) => sum + (bytes["CPU"] ?? 0), 0);
      assert.ok(taken <= limits.CPU, `${taken} of ${limits.CPU}`);
    });
  });

  it("waits for a model in use, and gives each its turn", async () => {
    await withPool({ maxLoaded: 1 }, async (pool, events) => {
      const lease = await pool.acquire("a");
      const order: string[] = [];
      const b = pool.use("b", () => order.push("b"));
      await delay(20);
      assert.equal(stateOf(pool, "b")?.state, "waiting");
      // It comes after b, which waits for it to go.
      const again = pool.use("a", () => order.push("a"));
      await delay(20);
      assert.deepEqual(order, []);
      lease.release();
      await Promise.all([b, again]);
      assert.deepEqual(order, ["b", "a"]);
      assert.deepEqual(events, ["load a", "unload a, evicted", "load b", "unload b, evicted", "load a"]);
    });
  });

  it("lets those go who do not want to wait any more", async () => {
    await withPool({ maxLoaded: 1 }, async (pool, events) => {
      const lease = await pool.acquire("a");
      const abort = new AbortController();
      const leaving = pool.acquire("b", { signal: abort.signal });
      const staying = pool.acquire("c");
      await delay(20);
      abort.abort();
      await assert.rejects(leaving, coldstartError("ABORTED"));
      lease.release();
      (await staying).release();
      assert.deepEqual(events, ["load a", "unload a, evicted", "load c"]);
      await assert.rejects(pool.acquire("a", { signal: abort.signal }), coldstartError("ABORTED"));
      // Who comes when the last one has just left.
      const left = new AbortController();
      const gone = pool.acquire("b", { signal: left.signal });
      await delay(1);
      left.abort();
      const late = pool.acquire("b");
      await assert.rejects(gone, coldstartError("ABORTED"));
      (await late).release();
      await pool.unload("b");
      // One of two who wait for the same.
      const second = new AbortController();
      const [first, other] = [pool.acquire("b", { signal: second.signal }), pool.acquire("b")];
      second.abort();
      await assert.rejects(first, coldstartError("ABORTED"));
      (await other).release();
    });
  });

  it("unloads what nobody uses for a while, or is told to", async () => {
    await withPool({ keepAlive: 30 }, async (pool, events) => {
      const lease = await pool.acquire("a");
      await delay(80);
      assert.equal(stateOf(pool, "a")?.state, "loaded");
      lease.release();
      while (stateOf(pool, "a")?.state !== "unloaded") await delay(10);
      assert.deepEqual(events, ["load a", "unload a, idle"]);
      const used = await pool.acquire("b");
      const unloaded = pool.unload("b");
      // Who comes now gets it loaded anew.
      const next = pool.acquire("b");
      await delay(20);
      assert.equal(used.model.disposed, false);
      used.release();
      await unloaded;
      assert.notEqual((await next).model, used.model);
      assert.ok(used.model.disposed);
      assert.deepEqual(events.slice(2), ["load b", "unload b, asked", "load b"]);
      (await next).release();
      await pool.unload("c");
    });
    await withPool({ keepAlive: 0 }, async (pool) => {
      const lease = await pool.acquire("a");
      lease[Symbol.dispose]();
      while (stateOf(pool, "a")?.state !== "unloaded") await delay(5);
    });
  });

  it("says what is wrong, and tries again when asked again", async () => {
    const file = folder.path("later.gguf");
    await withPool(
      { models: { later: { path: file, ...OPTIONS }, big: { path: TINY_STORIES, ...OPTIONS } } },
      async (pool) => {
        const failing = await Promise.allSettled([pool.acquire("later"), pool.acquire("later")]);
        for (const { status, reason } of failing as PromiseRejectedResult[]) {
          assert.equal(status, "rejected");
          assert.equal((reason as { code: string }).code, "MODEL_NOT_FOUND");
        }
        writeFileSync(file, randomEncoder(TINY_ENCODER));
        await pool.use("later", async (model) => assert.equal((await model.embed("the dog")).vectors.length, 1));
        await assert.rejects(pool.acquire("other"), coldstartError("INVALID_OPTION", /"later", "big"/));
        assert.throws(() => pool.add("big", file), coldstartError("INVALID_OPTION", /big/));
        pool.add("other", { path: TINY_STORIES, ...OPTIONS, threads: -1 });
        await assert.rejects(pool.acquire("other"), coldstartError("INVALID_OPTION", /threads/));
        await pool.remove("other");
        await assert.rejects(pool.acquire("other"), coldstartError("INVALID_OPTION"));
        assert.equal(pool.list().length, 2);
        await assert.rejects(
          pool.use("big", () => {
            throw new Error("mine");
          }),
          /mine/,
        );
        assert.equal(stateOf(pool, "big")?.users, 0);
      },
    );
    const limited = { memory: { limits: { CPU: one / 50 } } };
    await withPool(limited, async (pool) => {
      await assert.rejects(pool.acquire("a"), coldstartError("OUT_OF_MEMORY"));
    });
    for (const options of [
      { keepAlive: -1 },
      { maxLoaded: 0 },
      { memory: { limits: { CPU: "x" } } },
      { models: [] },
      { x: 1 },
    ])
      assert.throws(() => new ModelPool(options as never), coldstartError("INVALID_OPTION"), JSON.stringify(options));
  });

  it("loads a model again that has crashed or was disposed", async () => {
    await withPool({}, async (pool, events) => {
      const lease = await pool.acquire("a");
      await lease.model.dispose();
      const again = await pool.acquire("a");
      assert.equal(again.model.disposed, false);
      lease.release();
      again.release();
      assert.deepEqual(events, ["load a", "unload a, crashed", "load a"]);
    });
  });

  it("ends for all at once", async () => {
    const pool = new ModelPool({ models: { a: TINY_STORIES, b: TINY_STORIES }, maxLoaded: 1 });
    const lease = await pool.acquire("a");
    const waiting = pool.acquire("b");
    await delay(20);
    const ended = pool.dispose();
    await assert.rejects(waiting, coldstartError("DISPOSED"));
    await ended;
    assert.ok(lease.model.disposed);
    lease.release();
    await assert.rejects(pool.acquire("a"), coldstartError("DISPOSED"));
    await pool.dispose();
  });

  it("holds its promises in any order of calls", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.constantFrom("a", "b", "c"), fc.nat(3), fc.boolean()), { minLength: 1, maxLength: 12 }),
        fc.integer({ min: 1, max: 3 }),
        async (calls, maxLoaded) => {
          await withPool({ maxLoaded }, async (pool) => {
            const check = () => {
              const loaded = pool.list().filter(({ bytes }) => Object.keys(bytes).length > 0);
              assert.ok(loaded.length <= maxLoaded);
            };
            const lived = calls.map(async ([name, pause, gives]) => {
              const abort = new AbortController();
              if (gives) setTimeout(() => abort.abort(), pause);
              let lease: Lease;
              try {
                lease = await pool.acquire(name, { signal: abort.signal });
              } catch (error) {
                assert.ok(gives && (error as { code: string }).code === "ABORTED", String(error));
                return;
              }
              check();
              assert.equal(lease.model.disposed, false);
              await lease.model.generate("One day,", { maxTokens: 2 }).result;
              await delay(pause);
              assert.equal(lease.model.disposed, false);
              lease.release();
            });
            await Promise.all(lived);
            check();
            assert.ok(pool.list().every(({ users }) => users === 0));
          });
        },
      ),
      { numRuns: 25 },
    );
  });
});
