import assert from "node:assert/strict";
import fc from "fast-check";
import { chooseFiles, type RepoFile } from "../../lib/hub/choose-files.js";
import { isSafePath, parseSpec } from "../../lib/hub/spec.js";
import { coldstartError } from "../support/errors.js";

describe("names of models on a hub", () => {
  it("have a repository, and perhaps a revision, a quantization or a file", () => {
    assert.deepEqual(parseSpec("hf:owner/repo"), { repo: "owner/repo", revision: "main" });
    assert.deepEqual(parseSpec("hf:o/r-GGUF:Q4_K_M"), { repo: "o/r-GGUF", revision: "main", quantization: "Q4_K_M" });
    assert.deepEqual(parseSpec("hf:o/r/a/b.gguf"), { repo: "o/r", revision: "main", file: "a/b.gguf" });
    assert.deepEqual(parseSpec("hf:o/r@v1.0:Q8_0"), { repo: "o/r", revision: "v1.0", quantization: "Q8_0" });
    for (const bad of [
      "hf:",
      "hf:a",
      "hf:/a",
      "hf:a/b/../c",
      "hf:a/..",
      "hf:a/b:",
      "hf:a/b@",
      "hf:a/b/c\\d",
      "hf:a/b//c",
      "hf:../b",
    ])
      assert.throws(() => parseSpec(bad), coldstartError("INVALID_OPTION"), bad);
  });

  it("never lead out of the cache", () => {
    for (const path of ["../x", "a/../b", "/etc/passwd", "a\\..\\b", "C:x", "a//b", ".", "", "a\u0000b", "./a"])
      assert.equal(isSafePath(path), false, path);
    assert.ok(isSafePath("a/b-00001-of-00002.gguf"));
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom("a", "/", ".", "\\", ":", "@", "-") }), (rest) => {
        let spec;
        try {
          spec = parseSpec(`hf:${rest}`);
        } catch {
          return;
        }
        for (const part of [...spec.repo.split("/"), ...(spec.file?.split("/") ?? [])])
          assert.ok(part !== "" && part !== ".." && part !== "." && !part.includes("\\"));
      }),
      { numRuns: 5000 },
    );
  });
});

describe("files of a model", () => {
  const file = (path: string): RepoFile => ({ path, size: 1, blob: "", sha256: undefined });
  const choose = (paths: string[], rest = "") =>
    chooseFiles(paths.map(file), parseSpec(`hf:o/r${rest}`)).files.map(({ path }) => path);
  const QUANTIZED = ["m-Q4_K_M.gguf", "m-Q4_K_S.gguf", "m-Q8_0.gguf", "m-q4_k.gguf", "mmproj-F16.gguf", "README.md"];

  it("are the one that is asked for, or the usual one", () => {
    assert.deepEqual(choose(QUANTIZED), ["m-Q4_K_M.gguf"]);
    assert.deepEqual(choose(QUANTIZED, ":q8_0"), ["m-Q8_0.gguf"]);
    assert.deepEqual(choose(QUANTIZED, ":Q4_K"), ["m-q4_k.gguf"]);
    assert.deepEqual(choose(QUANTIZED, "/mmproj-F16.gguf"), ["mmproj-F16.gguf"]);
    assert.deepEqual(choose(["Q8_0/m.gguf", "F16/m.gguf"]), ["Q8_0/m.gguf"]);
    assert.deepEqual(choose(["only.gguf"]), ["only.gguf"]);
  });

  it("are all parts of a split one, in order", () => {
    const parts = ["Q4_0/m-00002-of-00003.gguf", "Q4_0/m-00003-of-00003.gguf", "Q4_0/m-00001-of-00003.gguf"];
    const sorted = [...parts].sort();
    assert.deepEqual(choose([...parts, "m-F16.gguf"]), sorted);
    assert.deepEqual(choose(parts, "/Q4_0/m-00002-of-00003.gguf"), sorted);
  });

  it("are the checkpoint where there is no GGUF file", () => {
    const all = ["config.json", "model.safetensors", "tokenizer.json", "README.md", "onnx/model.onnx", "x.bin"];
    assert.deepEqual(choose(all), ["config.json", "model.safetensors", "tokenizer.json"]);
  });

  it("are listed where it is not clear, or they are not there", () => {
    const refuses = (paths: string[], rest: string, pattern: RegExp) =>
      assert.throws(() => choose(paths, rest), coldstartError("MODEL_NOT_FOUND", pattern));
    refuses(QUANTIZED, ":Q2_K", /no model of Q2_K.*m-Q4_K_M\.gguf/);
    refuses(["a-Q8_0.gguf", "b-Q8_0.gguf"], ":Q8_0", /several models of Q8_0.*a-Q8_0\.gguf, b-Q8_0\.gguf/);
    refuses(["a-x.gguf", "b-y.gguf"], "", /several models/);
    refuses(["README.md"], "", /no GGUF file/);
    refuses(["a.gguf"], "/b.gguf", /no file b\.gguf.*a\.gguf/);
  });
});
