import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import fc from "fast-check";
import { loadModel, type GenerateOptions, type LoadOptions, type Model } from "../lib/index.js";
import { coldstartError } from "./support/errors.js";
import { STORIES_260K, TINY_STORIES, withModel } from "./support/models.js";

/** EOS banned, so that all texts have their length. */
const GREEDY: GenerateOptions = { temperature: 0, maxTokens: 20, logitBias: { 2: -Infinity } };
const START = "Once there was a girl named Mia. She had a red ball.";

describe("a session", () => {
  let model: Model;
  before(async () => {
    model = await loadModel(TINY_STORIES, { threads: 1 });
  });
  after(() => model.dispose());

  it("continues as the whole text does, without computing what it has", async () => {
    const session = model.session();
    assert.equal(await session.append(START), (await model.tokenize(START)).length);
    const first = await session.generate(" One day", GREEDY).result;
    const second = await session.generate(" Then", GREEDY).result;
    assert.equal(second.usage.cachedTokens, first.usage.promptTokens + 19, "all but the last token, never computed");
    await withModel({ prefixCache: false }, async (plain) => {
      const tokens = async (text: string, addSpecial = false) => plain.tokenize(text, { addSpecial });
      let text = [...(await tokens(START, true)), ...(await tokens(" One day"))];
      assert.deepEqual(first.tokens, (await plain.generate(text, GREEDY).result).tokens);
      text = [...text, ...first.tokens, ...(await tokens(" Then"))];
      assert.deepEqual(second.tokens, (await plain.generate(text, GREEDY).result).tokens);
      assert.deepEqual(session.tokens, [...text, ...second.tokens]);
    });
  });

  it("continues without a prompt, and begins with tokens", async () => {
    const session = model.session(await model.tokenize(START));
    const { tokens } = await session.generate(undefined, GREEDY).result;
    assert.deepEqual(tokens, (await model.generate(START, GREEDY).result).tokens);
    assert.equal(session.length, (await model.tokenize(START)).length + 20);
  });

  it("forks: both go their own ways from the same text", async () => {
    const session = model.session();
    await session.append(START);
    const names = [" Tom", " Ben", " Lily", " Sam"];
    const forks = names.map(() => session.fork());
    const results = await Promise.all(forks.map((fork, i) => fork.generate(`${names[i]} came.`, GREEDY).result));
    const shared = session.length;
    for (const [i, { tokens, usage }] of results.entries()) {
      assert.ok(usage.cachedTokens >= shared - 1, `${usage.cachedTokens} of ${shared}`);
      assert.equal(session.length, shared);
      const text = [...session.tokens, ...(await model.tokenize(`${names[i]} came.`, { addSpecial: false }))];
      assert.deepEqual(tokens, (await model.generate(text, GREEDY).result).tokens);
    }
  });

  it("keeps what was generated until a cancellation", async () => {
    const session = model.session();
    const generation = session.generate(START, { logitBias: { 2: -Infinity } });
    for await (const _chunk of generation) break;
    const { tokens, finishReason } = await generation.result;
    assert.equal(finishReason, "aborted");
    assert.deepEqual(session.tokens, [...(await model.tokenize(START)), ...tokens]);
  });

  it("follows a text that is shifted", async () => {
    const session = model.session();
    const options: GenerateOptions = { ...GREEDY, maxTokens: 400, logitBias: { 2: -Infinity }, overflow: "shift" };
    const { usage } = await session.generate(START, options).result;
    assert.ok(usage.droppedTokens > 0);
    assert.equal(session.length, usage.promptTokens + 400 - usage.droppedTokens);
    assert.equal(
      (await session.generate(undefined, { ...GREEDY, maxTokens: 1, overflow: "shift" }).result).tokens.length,
      1,
    );
  });

  it("does one thing at a time", async () => {
    const session = model.session();
    const busy = coldstartError("INVALID_OPTION", /busy/);
    const generation = session.generate(START, GREEDY);
    assert.throws(() => session.generate(START), busy);
    await assert.rejects(session.append("x"), busy);
    await assert.rejects(session.snapshot(), busy);
    await generation.result;
    await session.append(" The end.");
  });

  it("says what is wrong", async () => {
    const session = model.session();
    assert.throws(() => session.generate(), coldstartError("INVALID_OPTION", /empty/));
    await assert.rejects(
      session.append("x", { temperature: 1 } as object),
      coldstartError("INVALID_OPTION", /temperature/),
    );
    await assert.rejects(session.append(""), coldstartError("INVALID_OPTION"));
    await assert.rejects(session.snapshot(), coldstartError("INVALID_OPTION", /empty/));
    await assert.rejects(session.restore("text" as unknown as Uint8Array), coldstartError("INVALID_OPTION"));
    await assert.rejects(session.append(Array(300).fill(400)), coldstartError("CONTEXT_OVERFLOW"));
    await assert.rejects(session.append([100_000]), coldstartError("INVALID_OPTION", /vocabulary/));
    const aborted = session.append(START, { signal: AbortSignal.abort("why") });
    await assert.rejects(aborted, coldstartError("ABORTED"));
    assert.equal(session.length, 0, "nothing was added");
    assert.throws(() => model.session([-1]), coldstartError("INVALID_OPTION"));
  });
});

describe("a snapshot", () => {
  let folder: string;
  let snapshot: Uint8Array;
  let tokens: number[];
  let expected: number[];
  before(async () => {
    folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
    await withModel({}, async (model) => {
      const session = model.session();
      await session.append(START);
      await session.generate(" One day", GREEDY).result;
      snapshot = await session.snapshot();
      tokens = session.tokens;
      expected = (await session.fork().generate(" Then", GREEDY).result).tokens;
    });
  });
  after(() => rmSync(folder, { recursive: true }));

  for (const [name, load] of Object.entries<LoadOptions>({
    "a unified KV cache": {},
    "no memory for prefixes": { kvCache: { spill: { bytes: 0 } } },
    "no prefix cache": { prefixCache: false },
    "more sequences": { parallel: 32 },
  })) {
    it(`goes on in another process as if nothing had happened, with ${name}`, async () => {
      await withModel(load, async (model) => {
        const session = model.session();
        await session.restore(snapshot);
        assert.deepEqual(session.tokens, tokens);
        const result = await session.generate(" Then", GREEDY).result;
        assert.deepEqual(result.tokens, expected);
        assert.equal(
          result.usage.cachedTokens,
          load.prefixCache === false ? 0 : tokens.length,
          "nothing was computed again",
        );
        if (load.prefixCache === false) assert.equal(model.status().kvCache.spilledBytes, 0, "nothing is kept in vain");
      });
    });
  }

  it("works between split KV caches, too, and says when the layout is another", async () => {
    await withModel({ kvCache: { layout: "split" }, parallel: 3 }, async (model) => {
      const session = model.session(tokens);
      const split = await session.snapshot();
      const other = model.session();
      await other.restore(split);
      assert.deepEqual((await other.generate(" Then", GREEDY).result).tokens, expected);
      await assert.rejects(
        other.restore(snapshot),
        coldstartError("INVALID_SNAPSHOT", /another kvCache\.layout: unified/),
      );
    });
  });

  it("of a split KV cache has what was computed, also when it came from another pool just before", async () => {
    const kvCache = { layout: "split" as const };
    await withModel({ kvCache, parallel: 3 }, async (model) => {
      const session = model.session();
      await session.append(START.repeat(5));
      const expected = (await session.fork().generate(" Then", GREEDY).result).tokens;
      // Keeps the pool that has the text at work, so that the snapshot's sequence gets it from there.
      const running = session.fork().generate(" Then", { ...GREEDY, maxTokens: 2000, overflow: "shift" });
      for await (const _chunk of running) {
        const taken = await session.snapshot();
        const other = model.session();
        await other.restore(taken);
        await withModel({ kvCache, parallel: 3 }, async (fresh) => {
          const restored = fresh.session();
          await restored.restore(taken);
          assert.deepEqual((await restored.generate(" Then", GREEDY).result).tokens, expected);
        });
        break;
      }
    });
  });

  it("is written to a file whole or not at all", async () => {
    await withModel({}, async (model) => {
      const session = model.session(tokens);
      const file = path.join(folder, "story.session");
      writeFileSync(file, "older");
      await session.saveTo(file);
      assert.deepEqual(readdirSync(folder), ["story.session"]);
      const other = model.session();
      await other.loadFrom(file);
      assert.deepEqual(other.tokens, tokens);

      const readOnly = mkdtempSync(path.join(folder, "read-only-"));
      const target = path.join(readOnly, "missing", "story.session");
      await assert.rejects(session.saveTo(target), coldstartError("WRITE_FAILED", /ENOENT/));
      chmodSync(readOnly, 0o555);
      assert.deepEqual(readdirSync(readOnly), []);
      await assert.rejects(other.loadFrom(path.join(folder, "nothing")), { code: "ENOENT" });
      assert.deepEqual(other.tokens, tokens);
    });
  });

  it("is refused when it is damaged anywhere, and nothing changes", async () => {
    await withModel({}, async (model) => {
      const session = model.session(tokens.slice(0, 5));
      const refused = coldstartError("INVALID_SNAPSHOT");
      await fc.assert(
        fc.asyncProperty(fc.nat(snapshot.length - 1), fc.integer({ min: 1, max: 255 }), async (at, bits) => {
          const damaged = Uint8Array.from(snapshot);
          damaged[at]! ^= bits;
          await assert.rejects(session.restore(damaged), refused);
        }),
        { numRuns: 60 },
      );
      for (const length of [0, 7, 8, 12, 40, snapshot.length >> 1, snapshot.length - 1]) {
        await assert.rejects(session.restore(snapshot.subarray(0, length)), refused);
      }
      await assert.rejects(session.restore(Buffer.concat([snapshot, new Uint8Array(8)])), refused);
      assert.deepEqual(session.tokens, tokens.slice(0, 5));
      assert.match(await model.generate(START, GREEDY).text(), /\w/, "the model lives on");
    });
  });

  it("is refused when somebody made it up, though its checksum is right", async () => {
    /** Changes the body and signs it anew. */
    const forge = (edit: (body: Buffer) => Buffer | undefined) => {
      const body = Buffer.from(snapshot.subarray(0, -32));
      const edited = edit(body) ?? body;
      return Buffer.concat([edited, createHash("sha256").update(edited).digest()]);
    };
    const stateAt = 12 + Buffer.from(snapshot).readUInt32LE(8) + 4 * tokens.length;
    await withModel({}, async (model) => {
      const session = model.session();
      await session.restore(forge(() => undefined));
      const refused = coldstartError("INVALID_SNAPSHOT");
      // Every field of the state before the weights: magic, streams, cells, positions, sequences, types, sizes of rows.
      const fields = 4 * (4 + 3 * tokens.length + 2 + 3);
      for (let at = stateAt; at < stateAt + fields; at += 4) {
        const isSequence =
          at === stateAt + 4 ||
          (at >= stateAt + 16 && at < stateAt + 16 + 12 * tokens.length && (at - stateAt - 16) % 12 === 8);
        if (isSequence) continue; // Not used.
        for (const value of [0xffffffff, 0x7fffffff, 0, 77]) {
          const bytes = forge((body) => {
            if (body.readUInt32LE(at) === value) body.writeUInt32LE(value ^ 1, at);
            else body.writeUInt32LE(value, at);
            return undefined;
          });
          await assert.rejects(session.restore(bytes), refused, `field at ${at - stateAt}, ${value}`);
        }
      }
      await assert.rejects(session.restore(forge((body) => body.subarray(0, -4))), refused);
      await assert.rejects(session.restore(forge((body) => Buffer.concat([body, Buffer.alloc(64)]))), refused);
      await assert.rejects(
        session.restore(forge((body) => Buffer.concat([body.subarray(0, 12), Buffer.from("[["), body.subarray(14)]))),
        refused,
      );
      assert.deepEqual(session.tokens, tokens);
    });
  });

  it("is refused by another model and by other KV types", async function () {
    const others: [load: LoadOptions & { path?: string }, message: RegExp][] = [
      [{ kvCache: { keyType: "f32" } }, /another kvCache\.keyType: f16 instead of f32/],
      [{ kvCache: { valueType: "bf16" } }, /another kvCache\.valueType/],
    ];
    if (STORIES_260K) others.push([{ path: STORIES_260K, contextLength: 256 }, /another model/]);
    // The same model with other weights, such as a fine-tuned one.
    const changed = path.join(folder, "changed.gguf");
    const bytes = readFileSync(TINY_STORIES);
    bytes.fill(0, bytes.length - 100_000);
    writeFileSync(changed, bytes);
    others.push([{ path: changed }, /another model/]);
    for (const [load, message] of others) {
      await withModel(load, async (model) => {
        await assert.rejects(model.session().restore(snapshot), coldstartError("INVALID_SNAPSHOT", message));
      });
    }
  });

  it("is refused when it is longer than the context", async () => {
    await withModel({ contextLength: 16 }, async (model) => {
      await assert.rejects(model.session().restore(snapshot), coldstartError("CONTEXT_OVERFLOW", /\d+ tokens.*16/));
    });
  });
});
