// A model in a process of its own: the same results, and an application that outlives it.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { ColdstartError, loadModel, type GenerateOptions, type Model } from "../lib/index.js";
import { EventBuffer, packError, packEvent, unpackError, unpackEvent } from "../lib/isolation/messages.js";
import type { NativeEvent } from "../lib/native.js";
import { coldstartError } from "./support/errors.js";
import { PROMPT, TINY_STORIES, withModel } from "./support/models.js";
import { childrenOf, isAlive, runFixture, until } from "./support/processes.js";

const GREEDY: GenerateOptions = { temperature: 0, maxTokens: 30, logitBias: { 2: -Infinity } };
/** Goes on until something ends it. */
const ENDLESS: GenerateOptions = {
  temperature: 0,
  overflow: "shift",
  maxTokens: 1_000_000,
  logitBias: { 2: -Infinity },
};

const loadIsolated = (options = {}) => loadModel(TINY_STORIES, { threads: 1, isolation: "process", ...options });

describe("a model in a process of its own", () => {
  let model: Model;
  let here: Model;
  before(async () => {
    model = await loadIsolated();
    here = await loadModel(TINY_STORIES, { threads: 1 });
  });
  after(async () => {
    await model.dispose();
    await here.dispose();
  });

  it("is there, and knows the same", () => {
    assert.notEqual(model.placement.pid, process.pid);
    assert.equal(here.placement.pid, process.pid);
    assert.ok(isAlive(model.placement.pid));
    assert.deepEqual(model.info, here.info);
    const { devices, pid: _pid, ...rest } = model.placement;
    const { devices: devicesHere, pid: _pidHere, ...restHere } = here.placement;
    assert.deepEqual(rest, restHere);
    assert.deepEqual(
      devices.map(({ name, weights, kvCache }) => ({ name, weights, kvCache })),
      devicesHere.map(({ name, weights, kvCache }) => ({ name, weights, kvCache })),
    );
  });

  it("generates the same, many at a time, log-probabilities and streams included", async () => {
    const seeds = Array.from({ length: 20 }, (_, seed) => seed);
    const all = (of: Model) =>
      Promise.all(
        seeds.map(async (seed) => {
          const generation = of.generate(PROMPT, { seed, maxTokens: 40, logprobs: 2 });
          let text = "";
          for await (const chunk of generation) text += chunk.text;
          const { timings: _timings, usage, ...result } = await generation.result;
          assert.equal(result.text, text);
          return { ...result, completionTokens: usage.completionTokens };
        }),
      );
    // One at a time the results are exact; in company a near tie may fall the other way.
    await withModel({ deterministic: true }, async (plain) => {
      const isolated = await loadIsolated({ deterministic: true });
      assert.deepEqual(await all(isolated), await all(plain));
      await isolated.dispose();
    });
  });

  it("cancels by signal, by cancel() and by leaving the loop", async () => {
    const controller = new AbortController();
    const generation = model.generate(PROMPT, { ...ENDLESS, signal: controller.signal });
    for await (const _chunk of generation) controller.abort();
    assert.equal((await generation.result).finishReason, "aborted");
    const second = model.generate(PROMPT, ENDLESS);
    for await (const _chunk of second) break;
    assert.equal((await second.result).finishReason, "aborted");
    await until(() => model.status().running === 0);
  });

  it("says its status", async () => {
    const generation = model.generate(PROMPT, ENDLESS);
    for await (const _chunk of generation) {
      if (model.status().running === 1) break;
    }
    await generation.result;
    await until(() => model.status().running === 0);
    const { kvCache, steps } = model.status();
    assert.ok(kvCache.used > 0 && kvCache.capacity === 256 && steps > 0);
  });

  it("tokenizes and detokenizes", async () => {
    const tokens = await model.tokenize(PROMPT);
    assert.deepEqual(tokens, await here.tokenize(PROMPT));
    assert.equal(await model.detokenize(tokens), PROMPT);
    await assert.rejects(model.detokenize([640]), coldstartError("INVALID_OPTION", /640/));
  });

  it("has sessions that grow, fork, and are saved and read by either kind of model", async () => {
    const session = model.session();
    await session.append(PROMPT);
    const fork = session.fork();
    const { tokens } = await session.generate(undefined, GREEDY).result;
    assert.deepEqual((await fork.generate(undefined, GREEDY).result).tokens, tokens);
    const snapshot = await session.snapshot();
    for (const other of [model, here]) {
      const restored = other.session();
      await restored.restore(snapshot);
      assert.deepEqual(restored.tokens, session.tokens);
      const { usage } = await restored.generate(undefined, GREEDY).result;
      assert.ok(usage.cachedTokens > 30, `${usage.cachedTokens} tokens were there`);
    }
    const folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
    try {
      const file = path.join(folder, "session");
      await session.saveTo(file);
      const read = here.session();
      await read.loadFrom(file);
      assert.deepEqual(read.tokens, session.tokens);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("fails with the same errors at the same places", async () => {
    const failure = async (of: Model) => {
      const error: unknown = await of.generate(PROMPT, { maxTokens: 10_000 }).result.catch((thrown: unknown) => thrown);
      assert.ok(error instanceof ColdstartError);
      const { code, message, remedy, details } = error;
      return { code, message, remedy, details };
    };
    assert.deepEqual(await failure(model), await failure(here));
    for (const of of [model, here]) {
      assert.throws(() => of.generate([1, 640]), coldstartError("INVALID_OPTION", /Token 640 .* vocabulary of 640/));
      assert.throws(() => of.generate(PROMPT, { logitBias: { 700: 1 } }), coldstartError("INVALID_OPTION", /700/));
    }
    await assert.rejects(loadModel("missing.gguf", { isolation: "process" }), coldstartError("MODEL_NOT_FOUND"));
    await assert.rejects(
      loadModel(fileURLToPath(import.meta.url), { isolation: "process" }),
      coldstartError("INVALID_GGUF"),
    );
    await assert.rejects(loadIsolated({ isolation: "thread" }), coldstartError("INVALID_OPTION", /isolation/));
  });

  it("tells of progress, and stops when it is told to", async () => {
    const fractions: number[] = [];
    await (await loadIsolated({ onProgress: (fraction: number) => fractions.push(fraction) })).dispose();
    assert.equal(fractions.at(-1), 1);
    const stop = new Error("no more");
    const thrower = () => {
      throw stop;
    };
    await assert.rejects(loadIsolated({ onProgress: thrower }), stop);
    const signal = AbortSignal.timeout(5);
    await assert.rejects(loadIsolated({ signal }), coldstartError("ABORTED"));
  });

  describe("when it ends", () => {
    it("by dispose(): what is under way fails, and the process is gone", async () => {
      const mortal = await loadIsolated();
      const generation = mortal.generate(PROMPT, ENDLESS);
      generation.result.catch(() => undefined);
      await mortal.dispose();
      assert.equal(isAlive(mortal.placement.pid), false);
      await assert.rejects(generation.result, coldstartError("DISPOSED"));
      assert.throws(() => mortal.generate(PROMPT), coldstartError("DISPOSED"));
      await mortal.dispose();
    });

    it("by dispose() when it hangs: it is killed", async () => {
      const mortal = await loadIsolated();
      process.kill(mortal.placement.pid, "SIGSTOP");
      await mortal.dispose();
      assert.equal(isAlive(mortal.placement.pid), false);
    });

    it("by a crash: everything fails with ENGINE_CRASHED, and all others live", async () => {
      const mortal = await loadIsolated();
      const generations = Array.from({ length: 12 }, () => mortal.generate(PROMPT, ENDLESS)); // 8 run, 4 wait.
      let text = "";
      await assert.rejects(
        async () => {
          for await (const chunk of generations[0]!) {
            text += chunk.text;
            process.kill(mortal.placement.pid, "SIGKILL");
          }
        },
        coldstartError("ENGINE_CRASHED", /signal SIGKILL/),
      );
      assert.notEqual(text, "");
      const call = mortal.tokenize(PROMPT);
      for (const { result } of generations) await assert.rejects(result, coldstartError("ENGINE_CRASHED"));
      await assert.rejects(call, coldstartError("ENGINE_CRASHED"));
      assert.equal(mortal.disposed, true);
      assert.throws(() => mortal.generate(PROMPT), coldstartError("ENGINE_CRASHED"));
      await assert.rejects(mortal.session().append(PROMPT), coldstartError("ENGINE_CRASHED"));
      await mortal.dispose();
      assert.deepEqual(
        (await model.generate(PROMPT, GREEDY).result).tokens,
        (await here.generate(PROMPT, GREEDY).result).tokens,
      );
    });

    it("by a crash while it lies idle or loads", async () => {
      const mortal = await loadIsolated();
      process.kill(mortal.placement.pid, "SIGKILL");
      await assert.rejects(mortal.generate(PROMPT, ENDLESS).result, coldstartError("ENGINE_CRASHED"));
      if (process.platform !== "linux") return; // Where its number is known before it is loaded.
      const others = childrenOf(process.pid);
      const loading = loadIsolated();
      loading.catch(() => undefined);
      const mine = () => childrenOf(process.pid).filter((pid) => !others.includes(pid));
      await until(() => mine().length > 0);
      for (const pid of mine()) process.kill(pid, "SIGKILL");
      await assert.rejects(loading, coldstartError("ENGINE_CRASHED"));
    });
  });

  for (const stage of ["loading", "idle", "generating", "disposing", "uncaught", "forgotten"]) {
    it(`leaves no process when the application ends while it is ${stage}`, async () => {
      const { code, signal, out, err } = await runFixture("exit.mjs", [stage, '{ "isolation": "process" }']);
      assert.deepEqual({ code, signal }, { code: stage === "uncaught" ? 1 : 0, signal: null }, err);
      assert.match(out, /reached/);
      const pid = Number(/^\d+/.exec(out)?.[0]);
      if (stage !== "loading") await until(() => !isAlive(pid));
    });
  }

  it("ends when the application is killed", async () => {
    const script = fileURLToPath(new URL("fixtures/isolated.mjs", import.meta.url));
    for (const stage of ["idle", "generating"]) {
      const application = spawn(process.execPath, [script, stage], { stdio: ["ignore", "pipe", "inherit"] });
      let out = "";
      for await (const text of application.stdout.setEncoding("utf8")) {
        out += text as string;
        if (out.includes("\n")) break;
      }
      const pid = Number(out);
      assert.ok(isAlive(pid));
      application.kill("SIGKILL");
      await until(() => !isAlive(pid));
    }
  });

  it("is collected when it was forgotten", async () => {
    const { code, out, err } = await runFixture("isolated.mjs", ["forgotten"]);
    assert.equal(code, 0, err);
    assert.equal(out, "gone\n");
  });
});

describe("messages of an isolated engine", () => {
  it("bound what waits: chunks are merged, in their order, and nothing is lost", () => {
    const chunk = fc.record({
      type: fc.constant("chunk" as const),
      id: fc.integer({ min: 1, max: 3 }),
      text: fc.string(),
      tokens: fc.array(fc.nat(600)),
    });
    fc.assert(
      fc.property(fc.array(fc.array(chunk)), (batches) => {
        const buffer = new EventBuffer();
        for (const batch of batches) buffer.add(structuredClone(batch));
        const merged = buffer.take() as Extract<NativeEvent, { type: "chunk" }>[];
        assert.ok(merged.length <= 3);
        for (const id of [1, 2, 3]) {
          const of = (chunks: typeof merged) => chunks.filter((event) => event.id === id);
          const sent = of(batches.flat());
          assert.equal(of(merged).map(({ text }) => text).join(""), sent.map(({ text }) => text).join("")); // prettier-ignore
          assert.deepEqual(
            of(merged).flatMap(({ tokens }) => tokens),
            sent.flatMap(({ tokens }) => tokens),
          );
        }
        assert.ok(buffer.isEmpty);
      }),
    );
  });

  it("carry errors whole", () => {
    const error = new ColdstartError("CONTEXT_OVERFLOW", "Too long.", {
      remedy: "Shorten it.",
      details: { tokens: 3 },
    });
    const event: NativeEvent = { type: "failed", id: 1, error };
    const back = unpackEvent(structuredClone(packEvent(event)));
    assert.ok(back.type === "failed" && back.error instanceof ColdstartError);
    const { code, message, remedy, details } = back.error;
    assert.deepEqual(
      { code, message, remedy, details },
      {
        code: "CONTEXT_OVERFLOW",
        message: "Too long. Shorten it.",
        remedy: "Shorten it.",
        details: { tokens: 3 },
      },
    );
    assert.equal(unpackError(packError(new TypeError("x is not a function"))).code, "INTERNAL");
  });
});
