// Changed metadata, beside the tests' own reader and writer, and @huggingface/gguf.

import { gguf, GGUFValueType } from "@huggingface/gguf";
import fc from "fast-check";
import assert from "node:assert/strict";
import { copyFileSync, readdirSync, readFileSync, readlinkSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { ColdstartError, editMetadata, inspectGguf, type EditOptions, type MetadataChanges } from "../../lib/index.js";
import { splitModel } from "../../lib/index.js";
import { coldstartError } from "../support/errors.js";
import { readGgufForRewrite, writeGguf, type GgufEntry } from "../support/gguf-writer.js";
import { PROMPT, TINY_STORIES, withModel } from "../support/models.js";
import { randomEntry, randomGguf } from "../support/random-gguf.js";
import { temporaryFolder } from "../support/temporary-folder.js";

const original = readFileSync(TINY_STORIES);

describe("editMetadata()", () => {
  const folder = temporaryFolder();
  let file: string;
  beforeEach(() => {
    file = folder.path("model.gguf");
    copyFileSync(TINY_STORIES, file);
  });
  const edit = (changes: MetadataChanges, options?: EditOptions) => editMetadata(file, changes, options);
  const metadata = async () => (await inspectGguf(file, { arrayLimit: Infinity })).metadata;
  const refused = async (message: RegExp, changes: unknown, options?: EditOptions) => {
    const before = readFileSync(file);
    await assert.rejects(edit(changes as MetadataChanges, options), coldstartError("INVALID_OPTION", message));
    assert.ok(readFileSync(file).equals(before));
    assert.deepEqual(readdirSync(folder.path()), ["model.gguf"]);
  };

  it("sets, adds, removes and renames, and leaves the weights as they are", async () => {
    const { inPlace, bytes } = await edit({
      rename: { "general.description": "general.summary" },
      remove: ["general.license"],
      set: { "general.name": "another name, longer than the first", "llama.rope.freq_base": 500_000 },
      add: { "general.tags": ["a", "b"] },
    });
    assert.equal(inPlace, false);
    const expected = readGgufForRewrite(original);
    expected.rename("general.description", "general.summary");
    expected.drop("general.license");
    expected.set("general.name", "another name, longer than the first");
    expected.set("llama.rope.freq_base", 500_000);
    expected.put({ key: "general.tags", type: "array", elementType: "string", values: ["a", "b"] });
    assert.ok(readFileSync(file).equals(writeGguf(expected)));
    assert.equal(bytes, statSync(file).size);
  });

  it("changes values of the same size in place, and no other byte", async () => {
    const before = statSync(file);
    assert.equal(
      (await edit({ set: { "tokenizer.ggml.add_bos_token": false, "general.license": "MIT" } })).inPlace,
      true,
    );
    assert.equal(statSync(file).ino, before.ino);
    const bytes = readFileSync(file);
    const changed = [...bytes.keys()].filter((i) => bytes[i] !== original[i]);
    assert.deepEqual(
      changed.map((i) => [original[i], bytes[i]]),
      [
        [0x6d, 0x4d],
        [0x69, 0x49],
        [0x74, 0x54],
        [1, 0],
      ],
    );
  });

  it("uses the padding before the weights, to both sides", async () => {
    const { dataOffset, name } = await inspectGguf(file);
    const end = readGgufForRewrite(original);
    end.tensors.length = 0;
    let places = 0;
    for (let longer = -31; longer <= 31; longer++) {
      copyFileSync(TINY_STORIES, file);
      const text = "x".repeat(Math.max(0, name!.length + longer));
      const { inPlace } = await edit({ set: { "general.name": text } });
      const info = await inspectGguf(file);
      assert.equal(inPlace, info.dataOffset === dataOffset, `${longer}`);
      assert.equal(info.name, text);
      const expected = readGgufForRewrite(original);
      expected.set("general.name", text);
      assert.ok(readFileSync(file).equals(writeGguf(expected)));
      places += Number(inPlace);
    }
    assert.ok(places >= 22 && places <= 32, `${places} in place`);
  });

  it("makes any changes to any file, as the tests' own writer does", async () => {
    const picks: fc.Arbitrary<Iterator<number, number>> = fc.infiniteStream(fc.nat(1_000_000));
    await fc.assert(
      fc.asyncProperty(
        randomGguf.filter((spec) => spec.metadata.every(({ key }) => key !== "general.alignment")),
        fc.uniqueArray(randomEntry, { selector: (entry) => entry.key, maxLength: 4 }),
        picks,
        async (spec, added, stream) => {
          writeFileSync(file, writeGguf(spec));
          const draft = readGgufForRewrite(writeGguf(spec));
          const pick = (): number => stream.next().value;
          const changes = {
            rename: {} as Record<string, string>,
            remove: [] as string[],
            set: {} as Record<string, unknown>,
            add: {} as Record<string, unknown>,
          };
          const keys = draft.metadata.map(({ key }) => key as string);
          const free = added.filter(({ key }) => !keys.includes(key as string));
          for (const key of keys) {
            const what = pick() % 4;
            if (what === 0) {
              changes.rename[key] = `${key}.renamed`;
              draft.rename(key, `${key}.renamed`);
            } else if (what === 1) {
              changes.remove.push(key);
              draft.drop(key);
            } else if (what === 2 && free.length > 0) {
              const entry = { ...free[pick() % free.length]!, key };
              changes.set[key] = input(entry);
              draft.put(entry);
            }
          }
          for (const entry of free) {
            changes.add[entry.key as string] = input(entry);
            draft.put(entry);
          }
          if (Object.values(changes).every((group) => Object.keys(group).length === 0)) return;
          await edit(changes as MetadataChanges, { force: true });
          const [found, expected] = [readFileSync(file), writeGguf(draft)];
          assert.ok(found.subarray(0, expected.length).equals(expected));
          // The writer of the tests ends a file without tensors at its header.
          assert.ok(found.length === expected.length || spec.tensors.length === 0);
        },
      ),
      { numRuns: 300 },
    );
  });

  /** As a user says it, with its type. */
  function input(entry: GgufEntry): unknown {
    return entry.type === "array"
      ? { elementType: entry.elementType, values: entry.values }
      : { type: entry.type, value: entry.value };
  }

  it("gives new values the usual types, as @huggingface/gguf reads them", async () => {
    await edit({
      add: {
        text: "é",
        yes: true,
        whole: 5,
        negative: -5,
        large: 2 ** 40,
        huge: 2n ** 64n - 1n,
        half: 0.5,
        list: [1, 2.5],
      },
    });
    const { typedMetadata } = await gguf(file, { allowLocalFile: true, typedMetadata: true });
    const found = (key: string) => (typedMetadata as Record<string, unknown>)[key];
    assert.deepEqual(found("text"), { value: "é", type: GGUFValueType.STRING });
    assert.deepEqual(found("yes"), { value: true, type: GGUFValueType.BOOL });
    assert.deepEqual(found("whole"), { value: 5, type: GGUFValueType.UINT32 });
    assert.deepEqual(found("negative"), { value: -5, type: GGUFValueType.INT32 });
    assert.deepEqual(found("large"), { value: 2n ** 40n, type: GGUFValueType.UINT64 });
    assert.deepEqual(found("huge"), { value: 2n ** 64n - 1n, type: GGUFValueType.UINT64 });
    assert.deepEqual(found("half"), { value: 0.5, type: GGUFValueType.FLOAT32 });
    assert.deepEqual(found("list"), { value: [1, 2.5], type: GGUFValueType.ARRAY, subType: GGUFValueType.FLOAT32 });
  });

  it("takes what inspectGguf() returned", async () => {
    const { metadata: before } = await inspectGguf(file, { arrayLimit: Infinity });
    const scores = before["tokenizer.ggml.scores"] as { elementType: "float32"; length: number; values: number[] };
    assert.equal((await edit({ set: { "tokenizer.ggml.scores": scores } })).inPlace, true);
    assert.ok(readFileSync(file).equals(original));
  });

  it("exchanges keys", async () => {
    const before = await metadata();
    await edit({ rename: { "general.name": "general.license", "general.license": "general.name" } });
    const after = await metadata();
    assert.equal(after["general.name"], before["general.license"]);
    assert.equal(after["general.license"], before["general.name"]);
  });

  it("moves the weights when the alignment changes", async () => {
    await edit({ add: { "general.alignment": 256 } });
    const info = await inspectGguf(file);
    assert.equal(info.alignment, 256);
    const expected = readGgufForRewrite(original);
    expected.put({ key: "general.alignment", type: "uint32", value: 256 });
    assert.ok(readFileSync(file).equals(writeGguf(expected)));
    const text = (path: string) =>
      withModel({ path }, (model) => model.generate(PROMPT, { temperature: 0, maxTokens: 20 }).text());
    assert.equal(await text(file), await text(TINY_STORIES));
    await edit({ remove: ["general.alignment"] });
    assert.ok(readFileSync(file).equals(original));
    for (const value of [0, 8, 48, -1, 2 ** 20, { type: "uint64", value: 64 }, "32"])
      await refused(/general\.alignment|INVALID|must be/, { add: { "general.alignment": value } }, { force: true });
    await refused(/rename is "general\.alignment"/, { rename: { "llama.vocab_size": "general.alignment" } });
  });

  it("writes another file, and leaves this one as it is", async () => {
    const output = folder.path("other.gguf");
    const result = await edit({ set: { "general.license": "MIT" } }, { output });
    assert.deepEqual(result, { path: output, bytes: original.length, inPlace: false });
    assert.ok(readFileSync(file).equals(original));
    assert.equal((await inspectGguf(output)).metadata["general.license"], "MIT");
    await assert.rejects(
      edit({ remove: ["general.name"] }, { output: file }),
      coldstartError("INVALID_OPTION", /another file/),
    );
  });

  it("follows links, and keeps the permissions", async function () {
    if (process.platform === "win32") return this.skip();
    const link = folder.path("link.gguf");
    symlinkSync("model.gguf", link);
    const { mode } = statSync(file);
    for (const name of ["x", "a name that does not fit the padding of the header at all"]) {
      await editMetadata(link, { set: { "general.name": name } });
      assert.equal(readlinkSync(link), "model.gguf");
      assert.equal((await inspectGguf(file)).name, name);
      assert.equal(statSync(file).mode, mode);
    }
  });

  it("of a split model changes the first file, and refuses others", async () => {
    const { files } = await splitModel(file, folder.path("part"), { maxTensors: 20 });
    await editMetadata(files[0]!.path, { set: { "general.name": "in parts" } });
    await withModel({ path: files[0]!.path }, async (model) => assert.equal(model.info.name, "in parts"));
    await assert.rejects(
      editMetadata(files[1]!.path, { set: { "split.no": 1 } }),
      coldstartError("INVALID_OPTION", /of part 2 no metadata is read/),
    );
  });

  it("leaves nothing behind when it is aborted", async () => {
    const signal = AbortSignal.abort();
    await assert.rejects(edit({ remove: ["general.name"] }, { signal }), coldstartError("ABORTED"));
    const abort = new AbortController();
    const options = { output: folder.path("other.gguf"), signal: abort.signal, onProgress: () => abort.abort() };
    await assert.rejects(edit({ remove: ["general.name"] }, options), coldstartError("ABORTED", /Editing was aborted/));
    assert.deepEqual(readdirSync(folder.path()), ["model.gguf"]);
    assert.ok(readFileSync(file).equals(original));
  });

  describe("refuses", () => {
    const harmful: [name: string, changes: MetadataChanges, message: RegExp][] = [
      ["another architecture", { set: { "general.architecture": "qwen2" } }, /all keys and tensors are named after it/],
      ["to remove the architecture", { remove: ["general.architecture"] }, /no model is loaded without it/],
      ["to remove what every model has", { remove: ["llama.block_count"] }, /no model is loaded without it/],
      ["to rename it", { rename: { "tokenizer.ggml.tokens": "tokens" } }, /no model is loaded without it/],
      ["to make it one of several", { add: { "split.count": { type: "uint16", value: 3 } } }, /one of several/],
      ["another type", { set: { "llama.block_count": { type: "int32", value: 4 } } }, /is uint32 and would be int32/],
      ["fewer tokens", { set: { "tokenizer.ggml.tokens": ["a", "b"] } }, /has 640 elements.* and would have 2/],
    ];
    for (const [name, changes, message] of harmful) {
      it(`${name}, unless it is forced`, async () => {
        await refused(message, changes);
        await edit(changes, { force: true });
        assert.ok(!readFileSync(file).equals(original));
      });
    }

    it("keys that there are not, or are there already, and says which are near", async () => {
      await refused(/There is no metadata genral\.name in .*\. Did you mean general\.name\?/, {
        set: { "genral.name": "x" },
      });
      await refused(/There is no metadata nothing/, { remove: ["nothing"] });
      await refused(/There is no metadata nothing/, { rename: { nothing: "something" } });
      await refused(/add is "general\.name"/, { add: { "general.name": "x" } });
      await refused(/rename is "general\.name"/, { rename: { "general.license": "general.name" } });
      await refused(/rename is ""/, { rename: { "general.license": "" } });
      await refused(/add is "a.*b"/, { add: { "a\0b": 1 } });
    });

    it("values that do not fit", async () => {
      await refused(/must be a whole number from 0 to 4294967295 \(uint32\)/, { set: { "llama.block_count": -1 } });
      await refused(/must be a whole number/, { set: { "llama.block_count": 1.5 } });
      await refused(/must be text/, { set: { "general.name": 5 } });
      await refused(/must be true or false/, { set: { "tokenizer.ggml.add_bos_token": "yes" } });
      await refused(/a number that float32 holds/, { set: { "llama.rope.freq_base": 1e300 } });
      await refused(/must be an array of string/, { set: { "tokenizer.ggml.tokens": "a" } });
      await refused(/of a type/, { add: { empty: [] } });
      await refused(/must be text, a number/, { add: { mixed: [1, "a"] } });
      await refused(/must be text, a number/, { add: { nothing: null } });
      await refused(/\.type is "uint7"/, { add: { x: { type: "uint7", value: 1 } } });
      await refused(/no option add\["x"\]\.typ/, { add: { x: { typ: "uint8", value: 1 } } });
      await refused(/changes is an object\. It must be something to rename/, {});
      await refused(/changes? is 5|options is 5/, 5);
      await refused(/set is "x"/, { set: "x" });
    });

    it("more keys than readers take", async () => {
      const add = Object.fromEntries(Array.from({ length: 10_001 }, (_, i) => [`key.${i}`, i]));
      await assert.rejects(edit({ add }), coldstartError("INVALID_GGUF", /10025 metadata entries, over the limit/));
      assert.deepEqual(readdirSync(folder.path()), ["model.gguf"]);
      assert.ok(readFileSync(file).equals(original));
    });
  });

  it("of damaged files says what is wrong with them, and never makes them worse", async () => {
    const sound = original.subarray(0, 20_000 + (await inspectGguf(file)).dataOffset);
    const { dataOffset } = await inspectGguf(file);
    const place = fc.nat(dataOffset - 1);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(place, fc.nat(255)), { minLength: 1, maxLength: 4 }),
        fc.option(place, { freq: 4 }),
        async (damage, cut) => {
          const bytes = cut === null ? Buffer.from(original) : Buffer.from(sound.subarray(0, cut));
          for (const [at, byte] of damage) if (at < bytes.length) bytes[at] = byte;
          writeFileSync(file, bytes);
          try {
            await edit({ add: { "x.y": "a".repeat(100) } });
          } catch (error) {
            assert.ok(error instanceof ColdstartError, String(error));
            assert.match(error.code, /^(INVALID_GGUF|INVALID_OPTION|UNSUPPORTED_MODEL)$/);
            assert.ok(readFileSync(file).equals(bytes));
            return;
          }
          assert.equal((await inspectGguf(file)).metadata["x.y"], "a".repeat(100));
        },
      ),
      { numRuns: 200 },
    );
  });
});
