// What is found in damaged models, and checksums beside Node.js's own of bytes that the tests' reader takes apart.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { copyFileSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import fc from "fast-check";
import {
  ColdstartError,
  inspectGguf,
  splitModel,
  verifyModel,
  type Problem,
  type VerifyOptions,
} from "../../lib/index.js";
import { coldstartError } from "../support/errors.js";
import { readGgufForRewrite, rewriteGguf, writeGguf, type GgufDraft } from "../support/gguf-writer.js";
import { TINY_STORIES } from "../support/models.js";
import { randomGguf } from "../support/random-gguf.js";
import { temporaryFolder } from "../support/temporary-folder.js";

const original = readFileSync(TINY_STORIES);
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

describe("verifyModel()", () => {
  const folder = temporaryFolder();
  let file: string;
  beforeEach(() => {
    file = folder.path("model.gguf");
    copyFileSync(TINY_STORIES, file);
  });

  /** That a file is damaged so, and no other way. */
  async function finds(bytes: Uint8Array, ...expected: [kind: Problem["kind"], message: RegExp][]): Promise<void> {
    writeFileSync(file, bytes);
    const { ok, problems, files } = await verifyModel(file);
    assert.equal(ok, expected.length === 0);
    assert.deepEqual(
      problems.map(({ kind }) => kind),
      expected.map(([kind]) => kind),
      JSON.stringify(problems),
    );
    problems.forEach(({ message }, i) => assert.match(message, expected[i]![1]));
    assert.deepEqual(files, [{ path: file, bytes: bytes.length, sha256: sha256(bytes) }]);
  }
  const changed = (change: (draft: GgufDraft) => void) => rewriteGguf(original, change);

  it("finds nothing wrong with the embedded model, and computes its checksums", async () => {
    const { ok, problems, files, tensors } = await verifyModel(pathToFileURL(TINY_STORIES));
    assert.deepEqual({ ok, problems }, { ok: true, problems: [] });
    assert.deepEqual(files, [{ path: TINY_STORIES, bytes: original.length, sha256: sha256(original) }]);
    assert.deepEqual(
      tensors,
      readGgufForRewrite(original).tensors.map(({ name, data }) => ({
        name,
        type: "f32",
        bytes: data.length,
        sha256: sha256(data),
      })),
    );
  });

  it("computes the checksums of any file", async () => {
    await fc.assert(
      fc.asyncProperty(randomGguf, async (spec) => {
        const bytes = writeGguf(spec);
        writeFileSync(file, bytes);
        const { files, tensors, problems } = await verifyModel(file);
        assert.equal(files[0]!.sha256, sha256(bytes));
        assert.deepEqual(
          tensors.map((tensor) => tensor.sha256),
          readGgufForRewrite(bytes).tensors.map(({ data }) => sha256(data)),
        );
        // Weights at random may be NaN.
        assert.ok(
          problems.every(({ kind }) => kind === "weights"),
          JSON.stringify(problems),
        );
      }),
      { numRuns: 100 },
    );
  });

  describe("finds", () => {
    it("a weight that is NaN, and where", async () => {
      const tensors = readGgufForRewrite(original).tensors;
      const at = tensors.findIndex(({ name }) => name === "blk.1.ffn_up.weight");
      const bytes = changed((draft) =>
        draft.tensors[at]!.data.set(Buffer.from(Float32Array.of(NaN).buffer), 4 * 12_345),
      );
      await finds(bytes, [
        "weights",
        /^The weight 12345 of the tensor blk\.1\.ffn_up\.weight \(f32\) is NaN or infinite\.$/,
      ]);
    });

    it("one in a tensor of many chunks", async () => {
      const data = new Float32Array(700_000);
      data[600_001] = -Infinity;
      const tensor = { name: "large", type: 0, shape: [700_000], data: new Uint8Array(data.buffer) };
      await finds(writeGguf({ metadata: [], tensors: [tensor] }), ["weights", /The weight 600001 of the tensor large/]);
    });

    it("padding that is not zero, bytes after the end, and says where", async () => {
      const { dataOffset } = await inspectGguf(TINY_STORIES);
      const bytes = Buffer.from(original);
      bytes[dataOffset - 1] = 7;
      await finds(bytes, ["padding", new RegExp(`after the header is not zero: byte ${dataOffset - 1} of .* is 7`)]);
      await finds(Buffer.concat([original, Buffer.from("more")]), ["trailing", /has 4 more bytes after its end/]);
      const small = writeGguf({ metadata: [], tensors: [{ name: "t", type: 0, shape: [3] }] });
      small[small.length - 1] = 1;
      await finds(small, ["padding", /after the tensor t is not zero/]);
    });

    it("a header that breaks the rules, and still computes the file's checksum", async () => {
      await finds(original.subarray(0, 3_000_000), ["header", /the file is truncated: tensor/]);
      await finds(Buffer.from("hello, this is no model"), ["header", /starts with 'hell'/]);
      await finds(Buffer.alloc(0), ["header", /only 0 bytes/]);
    });

    const vocabularies: [name: string, change: (draft: GgufDraft) => void, message: RegExp][] = [
      [
        "a token that occurs twice",
        (draft) => (draft.array("tokenizer.ggml.tokens")[300] = "<s>"),
        /1 and 300 are both "<s>"/,
      ],
      [
        "too few scores",
        (draft) => draft.array("tokenizer.ggml.scores").pop(),
        /scores has 639 elements for 640 tokens/,
      ],
      ["too many types", (draft) => draft.array("tokenizer.ggml.token_type").push(1), /token_type has 641 elements/],
      [
        "a special token that there is not",
        (draft) => draft.set("tokenizer.ggml.eos_token_id", 640),
        /eos_token_id is 640/,
      ],
      ["another size", (draft) => draft.set("llama.vocab_size", 641), /vocab_size is 641/],
      ["no tokens", (draft) => draft.drop("tokenizer.ggml.tokens"), /there are no tokenizer\.ggml\.tokens/],
      ["no merges", (draft) => draft.set("tokenizer.ggml.model", "gpt2"), /there are no tokenizer\.ggml\.merges/],
    ];
    for (const [name, change, message] of vocabularies) {
      it(`in the vocabulary ${name}`, () => finds(changed(change), ["vocabulary", message]));
    }

    it("in the vocabulary more tokens than the embedding has rows", async () => {
      const bytes = changed((draft) => {
        for (const key of ["tokens", "scores", "token_type"]) draft.array(`tokenizer.ggml.${key}`).pop();
        draft.set("llama.vocab_size", 639);
      });
      await finds(bytes, ["vocabulary", /token_embd\.weight has 640 rows for 639 tokens/]);
    });

    it("several things at once", () =>
      finds(
        Buffer.concat([
          changed((draft) => {
            draft.fillTensor("output_norm.weight", Infinity);
            draft.set("tokenizer.ggml.bos_token_id", 4_000_000_000);
          }),
          Buffer.from("x"),
        ]),
        ["vocabulary", /bos_token_id/],
        ["trailing", /1 more bytes/],
        ["weights", /The weight 0 of the tensor output_norm\.weight/],
      ));
  });

  it("says what is wrong with any damage to the header, and nothing else happens", async () => {
    const { dataOffset } = await inspectGguf(TINY_STORIES);
    const small = original.subarray(0, dataOffset + 100_000);
    const damage = fc.array(fc.tuple(fc.nat(dataOffset - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(damage, fc.boolean(), async (edits, isWhole) => {
        const bytes = Buffer.from(isWhole ? original : small);
        for (const [at, byte] of edits) bytes[at] = byte;
        writeFileSync(file, bytes);
        try {
          const { files, ok, problems } = await verifyModel(file);
          assert.equal(files[0]!.sha256, sha256(bytes));
          assert.equal(ok, problems.length === 0);
        } catch (error) {
          // The damage may say that it is a part of a model in several files.
          assert.ok(error instanceof ColdstartError && error.code === "MODEL_NOT_FOUND", String(error));
        }
      }),
      { numRuns: 100 },
    );
  });

  describe("of a split model", () => {
    let parts: string[];
    beforeEach(async () => {
      parts = (await splitModel(file, folder.path("part"), { maxTensors: 10 })).files.map((part) => part.path);
    });

    it("finds the same tensors as of the whole one", async () => {
      const whole = await verifyModel(file);
      const { ok, tensors, files } = await verifyModel(parts[0]!);
      assert.ok(ok);
      assert.deepEqual(tensors, whole.tensors);
      assert.deepEqual(
        files.map((part) => part.sha256),
        parts.map((part) => sha256(readFileSync(part))),
      );
      assert.ok((await verifyModel(parts[0]!, { manifest: whole })).ok);
    });

    it("finds parts that are missing, damaged, or of another model", async () => {
      const kept = readFileSync(parts[1]!);
      rmSync(parts[1]!);
      const missing = await verifyModel(parts[0]!);
      assert.deepEqual(missing.problems.map(({ kind, path: at }) => [kind, at]), [["parts", parts[1]]]); // prettier-ignore
      copyFileSync(parts[2]!, parts[1]!);
      const mixed = await verifyModel(parts[0]!);
      assert.ok(mixed.problems.every(({ kind }) => kind === "parts") && mixed.problems.length > 2);
      writeFileSync(parts[1]!, kept.subarray(0, 1000));
      const damaged = await verifyModel(parts[0]!);
      assert.deepEqual(damaged.problems.map(({ kind, path: at }) => [kind, at]), [["header", parts[1]]]); // prettier-ignore
      assert.equal(damaged.files.length, 4);
    });
  });

  describe("compares with a manifest", () => {
    const differences = async (manifest: NonNullable<VerifyOptions["manifest"]>) =>
      (await verifyModel(file, { manifest })).problems.map(({ kind, message, tensor }) => {
        assert.equal(kind, "checksum");
        return tensor ?? message;
      });
    const write = (name: string, text: string) => {
      writeFileSync(folder.path(name), text);
      return folder.path(name);
    };

    it("that it made itself, as an object or as JSON", async () => {
      const manifest = await verifyModel(file);
      const json = write("manifest.json", JSON.stringify(manifest));
      assert.deepEqual(await differences(manifest), []);
      assert.deepEqual(await differences(pathToFileURL(json)), []);
      writeFileSync(file, changed((draft) => draft.fillTensor("output_norm.weight", 2))); // prettier-ignore
      for (const source of [manifest, json]) {
        const found = await differences(source);
        assert.equal(found.length, 2);
        assert.match(found[0]!, /model\.gguf has the SHA-256 [0-9a-f]{64}, and the manifest says [0-9a-f]{64}/);
        assert.equal(found[1], "output_norm.weight");
      }
      writeFileSync(file, changed((draft) => draft.set("general.name", "x"))); // prettier-ignore
      assert.deepEqual(await differences({ files: [], tensors: manifest.tensors }), [], "only metadata differ");
    });

    it("as sha256sum writes it, with other files in it", async () => {
      const line = (bytes: Uint8Array, name: string, mark = " ") => `${sha256(bytes)} ${mark}${name}\n`;
      const other = line(Buffer.from("x"), "README.md");
      assert.deepEqual(await differences(write("a", other + line(original, "model.gguf"))), []);
      assert.deepEqual(await differences(write("b", `# sums\r\n${line(original, "some/folder/model.gguf", "*")}`)), []);
      const [wrong] = await differences(
        write("c", line(Buffer.from("x"), "model.gguf").toUpperCase().replace("MODEL.GGUF", "model.gguf")),
      );
      assert.match(wrong!, new RegExp(`the manifest says ${sha256(Buffer.from("x"))}`));
      assert.deepEqual(await differences(write("d", other)), [
        "The manifest has no checksum of this model: none of model.gguf, and no tensors.",
      ]);
    });

    it("and tells what either has and the other has not", async () => {
      const manifest = await verifyModel(file);
      const renamed = manifest.tensors.map((tensor, i) => (i === 3 ? { ...tensor, name: "other" } : tensor));
      const found = await verifyModel(file, { manifest: { files: [], tensors: renamed } });
      assert.deepEqual(
        found.problems.map(({ message }) => message),
        [
          "The tensor other of the manifest is missing.",
          `The tensor ${manifest.tensors[3]!.name} is not in the manifest.`,
        ],
      );
      const { files } = await splitModel(file, folder.path("part"), { maxTensors: 20 });
      const parts = await verifyModel(files[0]!.path);
      const first = { files: parts.files.slice(0, 1), tensors: [] };
      const { problems } = await verifyModel(files[0]!.path, { manifest: first });
      assert.deepEqual(problems.map(({ message }) => message), [`${files[1]!.path} is not in the manifest.`]); // prettier-ignore
    });

    it("that is none, and says so", async () => {
      const refused = (manifest: unknown, message: RegExp) =>
        assert.rejects(verifyModel(file, { manifest } as VerifyOptions), coldstartError("INVALID_OPTION", message));
      await refused(write("a", "hello\n"), /as sha256sum writes them/);
      await refused(write("b", "{ hello"), /as `coldstart verify --json` writes it/);
      await refused(write("c", '{ "files": 5 }'), /manifest\.files is 5/);
      await refused({ files: [{ path: "x", sha256: "abc" }], tensors: [] }, /64 hexadecimal digits/);
      await refused({ files: [null], tensors: [] }, /manifest\.files\[0\]/);
      await refused(5, /manifest is 5/);
      await assert.rejects(
        verifyModel(file, { manifest: folder.path("none") }),
        coldstartError("LOAD_FAILED", /ENOENT/),
      );
    });
  });

  it("tells how far it is, and ends when it is told to", async () => {
    const fractions: number[] = [];
    await verifyModel(file, { onProgress: (fraction) => fractions.push(fraction) });
    assert.equal(fractions.at(-1), 1);
    assert.deepEqual(
      fractions,
      [...fractions].sort((a, b) => a - b),
    );
    const abort = new AbortController();
    await assert.rejects(
      verifyModel(file, { signal: abort.signal, onProgress: () => abort.abort() }),
      coldstartError("ABORTED", /Verifying was aborted/),
    );
  });

  it("rejects when there is nothing to verify", async () => {
    await assert.rejects(verifyModel(folder.path("none.gguf")), coldstartError("MODEL_NOT_FOUND"));
    await assert.rejects(verifyModel(path.dirname(file)), coldstartError("MODEL_NOT_FOUND"));
    await assert.rejects(verifyModel(5 as unknown as string), coldstartError("INVALID_OPTION", /model is 5/));
  });
});
