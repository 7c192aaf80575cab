// Models in several files, and in one again. The truth is llama-gguf-split of the same pin.

import { gguf } from "@huggingface/gguf";
import fc from "fast-check";
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { mergeModel, splitModel, type SplitOptions } from "../../lib/index.js";
import { coldstartError } from "../support/errors.js";
import { readGgufForRewrite, rewriteGguf, writeGguf, type GgufDraft } from "../support/gguf-writer.js";
import { PROMPT, root, TINY_STORIES, withModel } from "../support/models.js";
import { randomGguf } from "../support/random-gguf.js";
import { temporaryFolder } from "../support/temporary-folder.js";

const tool = path.join(root, "build", "cmake", "bin", "llama-gguf-split");
const model = readFileSync(TINY_STORIES);

function contents(draft: GgufDraft): unknown {
  return { metadata: draft.metadata, tensors: draft.tensors.map(({ data, ...rest }) => [rest, Buffer.from(data)]) };
}

describe("splitModel() and mergeModel()", () => {
  const folder = temporaryFolder();
  const split = (options?: SplitOptions) => splitModel(TINY_STORIES, folder.path("ours"), options);
  const names = () => readdirSync(folder.path()).sort();

  const cases: [name: string, options: SplitOptions, flags: string[]][] = [
    ["as many tensors as usual", {}, []],
    ["few tensors a file", { maxTensors: 7 }, ["--split-max-tensors", "7"]],
    ["few bytes a file", { maxBytes: 1_000_000 }, ["--split-max-size", "1M"]],
    [
      "a first file without tensors",
      { maxTensors: 10, metadataFirst: true },
      ["--no-tensor-first-split", "--split-max-tensors", "10"],
    ],
  ];
  for (const [name, options, flags] of cases) {
    it(`write the files of llama-gguf-split, byte for byte: ${name}`, async () => {
      execFileSync(tool, ["--split", ...flags, TINY_STORIES, folder.path("llama")], { stdio: "pipe" });
      const expected = names();
      const { files } = await split(options);
      assert.deepEqual(
        files.map((file) => path.basename(file.path)),
        expected.map((file) => file.replace("llama", "ours")),
      );
      for (const file of files) {
        const bytes = readFileSync(file.path);
        assert.ok(bytes.equals(readFileSync(file.path.replace("ours-", "llama-"))), file.path);
        assert.equal(file.bytes, bytes.length);
        assert.equal(file.tensors, readGgufForRewrite(bytes).tensors.length);
      }
      assert.equal(names().length, 2 * files.length, "nothing else is left");
    });
  }

  it("make the file of llama-gguf-split's parts that it was", async () => {
    execFileSync(tool, ["--split", "--split-max-tensors", "10", TINY_STORIES, folder.path("llama")], { stdio: "pipe" });
    const merged = await mergeModel(folder.path("llama-00001-of-00004.gguf"), folder.path("merged.gguf"));
    assert.deepEqual(merged, { path: folder.path("merged.gguf"), bytes: model.length, tensors: 39 });
    assert.ok(readFileSync(merged.path).equals(model));
  });

  it("make parts that llama-gguf-split merges", async () => {
    const { files } = await split({ maxTensors: 10 });
    execFileSync(tool, ["--merge", files[0]!.path, folder.path("merged.gguf")], { stdio: "pipe" });
    const merged = readGgufForRewrite(readFileSync(folder.path("merged.gguf")));
    // It leaves them there.
    for (const key of ["split.no", "split.count", "split.tensors.count"]) merged.drop(key);
    assert.deepEqual(contents(merged), contents(readGgufForRewrite(model)));
  });

  it("make parts that @huggingface/gguf reads", async () => {
    const { files } = await split({ maxTensors: 10 });
    const whole = await gguf(TINY_STORIES, { allowLocalFile: true });
    const parts = await Promise.all(files.map((file) => gguf(file.path, { allowLocalFile: true })));
    assert.deepEqual(
      parts.flatMap(({ tensorInfos }) => tensorInfos.map(({ name, shape, dtype }) => ({ name, shape, dtype }))),
      whole.tensorInfos.map(({ name, shape, dtype }) => ({ name, shape, dtype })),
    );
    const metadata = [whole, ...parts].map((file) => file.metadata as Record<string, unknown>);
    for (const [no, own] of metadata.slice(1).entries()) {
      assert.equal(own["split.no"], no);
      assert.equal(own["split.count"], 4);
      assert.equal(own["split.tensors.count"], 39);
    }
    assert.equal(metadata[1]!["general.name"], metadata[0]!["general.name"]);
    assert.equal(metadata[2]!["general.name"], undefined);
  });

  it("change nothing of what the model says", async () => {
    const { files } = await split({ maxTensors: 5, metadataFirst: true });
    const text = (file: string) =>
      withModel({ path: file }, (loaded) => loaded.generate(PROMPT, { temperature: 0, maxTokens: 40 }).text());
    assert.equal(await text(files[0]!.path), await text(TINY_STORIES));
  });

  it("divide a model that is divided already", async () => {
    const { files } = await split({ maxTensors: 5 });
    const again = await splitModel(files[0]!.path, folder.path("again"), { maxTensors: 12 });
    for (const file of (await split({ maxTensors: 12 })).files)
      assert.ok(readFileSync(file.path).equals(readFileSync(file.path.replace("ours-", "again-"))), file.path);
    assert.equal(again.files.length, 4);
  });

  it("give a tensor that is larger than allowed a file of its own", async () => {
    const { files } = await split({ maxBytes: 1 });
    assert.equal(files.length, 39);
    assert.ok(files.every(({ tensors }) => tensors === 1));
  });

  it("are inverse to one another, for every file", async () => {
    await fc.assert(
      fc.asyncProperty(
        randomGguf,
        fc.option(fc.integer({ min: 1, max: 5 }), { nil: undefined }),
        fc.option(fc.integer({ min: 1, max: 2000 }), { nil: undefined }),
        fc.boolean(),
        async (spec, maxTensors, maxBytes, metadataFirst) => {
          const bytes = writeGguf(spec);
          const file = folder.path("x.gguf");
          writeFileSync(file, bytes);
          const limits = { ...(maxTensors && { maxTensors }), ...(maxBytes && { maxBytes }), metadataFirst };
          const { files } = await splitModel(file, folder.path("x"), limits);
          const parts = files.map((part) => readGgufForRewrite(readFileSync(part.path)));
          for (const [i, { tensors }] of parts.entries()) {
            assert.ok(tensors.length <= (maxTensors ?? (maxBytes ? Infinity : 128)));
            assert.ok(
              tensors.length > 0 || parts.length === 1 || (metadataFirst && i === 0) || spec.tensors.length === 0,
            );
          }
          const merged = await mergeModel(files[0]!.path, folder.path("merged.gguf"));
          // The writer of the tests ends a file without tensors at its header.
          const { alignment = 32 } = spec;
          const rest = spec.tensors.length > 0 ? 0 : (alignment - (bytes.length % alignment)) % alignment;
          assert.ok(readFileSync(merged.path).equals(Buffer.concat([bytes, Buffer.alloc(rest)])));
          for (const part of files) rmSync(part.path);
        },
      ),
      { numRuns: 150 },
    );
  });

  it("tell how far they are, up to 1", async () => {
    const fractions: number[] = [];
    const { files } = await split({ maxTensors: 3, onProgress: (fraction) => fractions.push(fraction) });
    assert.ok(fractions.length >= files.length);
    assert.deepEqual(
      fractions,
      [...fractions].sort((a, b) => a - b),
    );
    assert.equal(fractions.at(-1), 1);
  });

  it("only say what they would write", async () => {
    const planned = await split({ maxTensors: 9, dryRun: true });
    assert.deepEqual(names(), []);
    assert.deepEqual(planned, await split({ maxTensors: 9 }));
  });

  describe("leave nothing behind", () => {
    it("when they are aborted", async () => {
      const abort = new AbortController();
      const options = { maxTensors: 1, signal: abort.signal, onProgress: () => abort.abort() };
      await assert.rejects(split(options), coldstartError("ABORTED", /Splitting was aborted/));
      assert.deepEqual(names(), []);
      await assert.rejects(split({ signal: AbortSignal.abort() }), coldstartError("ABORTED"));
    });

    it("when onProgress throws, and reject with that", async () => {
      const error = new Error("enough");
      const onProgress = () => {
        throw error;
      };
      await assert.rejects(split({ onProgress }), (thrown) => thrown === error);
      const { files } = await split({ maxTensors: 20 });
      const before = names();
      await assert.rejects(
        mergeModel(files[0]!.path, folder.path("merged.gguf"), { onProgress }),
        (thrown) => thrown === error,
      );
      assert.deepEqual(names(), before);
    });

    it("when there is no folder to write to", async () => {
      const nowhere = folder.path("missing", "x");
      await assert.rejects(
        splitModel(TINY_STORIES, nowhere),
        coldstartError("WRITE_FAILED", /missing\/x-00001-of-00001\.gguf cannot be written: ENOENT/),
      );
    });

    it("when the disk is full, nor replace what was there", function () {
      const disk = folder.path("disk");
      mkdirSync(disk);
      // Makes the command see a disk of its own; needs no privileges where user namespaces are allowed.
      const script =
        `mount -t tmpfs -o size=3m tmpfs ${disk} && cd ${disk} && printf older > x-00001-of-00004.gguf && ` +
        `{ "$0" "$@"; echo status $?; ls -A ${disk}; cat x-00001-of-00004.gguf; }`;
      const probe = spawnSync("unshare", ["-rm", "true"]);
      if (probe.status !== 0) return this.skip();
      const cli = [path.join(root, "dist/cli/main.js"), "split", TINY_STORIES, "x", "--max-tensors", "10"];
      const { stdout, stderr } = spawnSync("unshare", ["-rm", "sh", "-c", script, process.execPath, ...cli], {
        encoding: "utf8",
      });
      assert.match(stderr, /x-0000\d-of-00004\.gguf cannot be written: ENOSPC.*\[WRITE_FAILED\]/);
      assert.equal(stdout, "status 1\nx-00001-of-00004.gguf\nolder");
    });
  });

  describe("refuse", () => {
    it("to write over what they read", async () => {
      const { files } = await split({ maxTensors: 10 });
      const first = files[0]!.path;
      const before = files.map((file) => readFileSync(file.path));
      await assert.rejects(mergeModel(first, files[2]!.path), coldstartError("INVALID_OPTION", /another file/));
      await assert.rejects(
        splitModel(first, folder.path("ours"), { maxTensors: 10 }),
        coldstartError("INVALID_OPTION", /another file/),
      );
      files.forEach((file, i) => assert.ok(readFileSync(file.path).equals(before[i]!)));
    });

    it("to write over a folder", async () => {
      const { files } = await split({ maxTensors: 10 });
      await assert.rejects(mergeModel(files[0]!.path, folder.path()), coldstartError("INVALID_OPTION", /not a folder/));
    });

    it("to merge what is whole, what begins in the middle, and what is incomplete", async () => {
      const output = folder.path("merged.gguf");
      await assert.rejects(mergeModel(TINY_STORIES, output), coldstartError("INVALID_OPTION", /this one is whole/));
      const { files } = await split({ maxTensors: 10 });
      await assert.rejects(mergeModel(files[1]!.path, output), coldstartError("MODEL_NOT_FOUND", /not the first/));
      rmSync(files[2]!.path);
      await assert.rejects(mergeModel(files[0]!.path, output), coldstartError("MODEL_NOT_FOUND", /00003-of-00004/));
      assert.ok(!existsSync(output));
    });

    it("to merge parts that do not belong together", async () => {
      const { files } = await split({ maxTensors: 10 });
      const [first, second, third] = files.map((file) => file.path);
      const output = folder.path("merged.gguf");
      const kept = readFileSync(second!);
      copyFileSync(third!, second!);
      await assert.rejects(
        mergeModel(first!, output),
        coldstartError("INVALID_GGUF", /says that it is part 3, and it is part 2/),
      );
      writeFileSync(
        second!,
        rewriteGguf(kept, (draft) => draft.dropTensor(draft.tensors[0]!.name as string)),
      );
      await assert.rejects(
        mergeModel(first!, output),
        coldstartError("INVALID_GGUF", /have 39 tensors, and they have 38/),
      );
      const twin = readGgufForRewrite(readFileSync(first!)).tensors[3]!.name;
      writeFileSync(
        second!,
        rewriteGguf(kept, (draft) => {
          draft.tensors[0]!.name = twin;
        }),
      );
      await assert.rejects(mergeModel(first!, output), coldstartError("INVALID_GGUF", /which another part has too/));
      assert.ok(!existsSync(output));
    });

    it("options that make no sense", async () => {
      await assert.rejects(split({ maxTensors: 0 }), coldstartError("INVALID_OPTION", /maxTensors is 0/));
      await assert.rejects(split({ maxBytes: 1.5 }), coldstartError("INVALID_OPTION", /maxBytes is 1\.5/));
      const misspelt = { maxTensor: 1 } as SplitOptions;
      await assert.rejects(split(misspelt), coldstartError("INVALID_OPTION", /Did you mean maxTensors/));
      await assert.rejects(splitModel(folder.path("none.gguf"), "x"), coldstartError("MODEL_NOT_FOUND"));
    });

    it("a file that cannot be read", async function () {
      if (process.getuid?.() === 0) return this.skip();
      const file = folder.path("secret.gguf");
      copyFileSync(TINY_STORIES, file);
      chmodSync(file, 0);
      await assert.rejects(splitModel(file, folder.path("x")), coldstartError("LOAD_FAILED"));
    });
  });
});
