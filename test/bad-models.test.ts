// Files that are sound GGUF and hold a model that goes wrong later.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { loadModel } from "../lib/index.js";
import { coldstartError } from "./support/errors.js";
import { rewriteGguf, type GgufDraft } from "./support/gguf-writer.js";
import { PROMPT, TINY_STORIES, withModel } from "./support/models.js";

describe("a model that is damaged inside", () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
  });
  after(() => rmSync(folder, { recursive: true }));

  /** The embedded model, changed by `edit`, in a file of its own. */
  function changed(edit: (draft: GgufDraft) => void): string {
    const file = path.join(folder, "changed.gguf");
    writeFileSync(file, rewriteGguf(readFileSync(TINY_STORIES), edit));
    return file;
  }

  it("is what it was when nothing is changed", async () => {
    await withModel({ path: changed(() => undefined) }, async (model) => {
      assert.match(await model.generate(PROMPT, { temperature: 0 }).text(), /^ a quiet boy named Nina/);
    });
  });

  for (const value of [NaN, Infinity, -Infinity]) {
    it(`with ${value} in its weights stops requests with NUMERIC_ERROR, and lives on`, async () => {
      const file = changed((draft) => draft.fillTensor("output_norm.weight", value));
      await withModel({ path: file }, async (model) => {
        for (const options of [{}, { temperature: 0 }, { grammar: 'root ::= " a"' }, { topK: 0, repeatPenalty: 1.1 }]) {
          const generation = model.generate(PROMPT, options);
          await assert.rejects(
            generation.result,
            coldstartError("NUMERIC_ERROR", /no usable probabilities.*checkTensors/),
          );
        }
        assert.equal(await model.detokenize(await model.tokenize("still here")), "still here");
      });
    });

    it(`with ${value} in its weights is refused with checkTensors`, async () => {
      const file = changed((draft) => draft.fillTensor("output_norm.weight", value));
      await assert.rejects(loadModel(file, { checkTensors: true }), coldstartError("LOAD_FAILED", /invalid data/));
    });
  }

  it("without byte tokens says which text it cannot represent, and takes the rest", async () => {
    const file = changed((draft) => {
      const tokens = draft.array("tokenizer.ggml.tokens");
      const types = draft.array("tokenizer.ggml.token_type");
      tokens.forEach((token, i) => {
        if (typeof token !== "string" || !/^<0x..>$/.test(token)) return;
        tokens[i] = `unused${i}`;
        types[i] = 1;
      });
    });
    await withModel({ path: file }, async (model) => {
      const refused = coldstartError("TOKENIZE_FAILED", /no token for a part of the text/);
      await assert.rejects(model.tokenize("🦊"), refused);
      await assert.rejects(model.generate("🦊 once").result, refused);
      assert.match(await model.generate(PROMPT, { temperature: 0 }).text(), /^ a quiet boy/);
    });
  });

  const refusals: [
    name: string,
    edit: (draft: GgufDraft) => void,
    code: "UNSUPPORTED_MODEL" | "INVALID_GGUF" | "LOAD_FAILED",
    message: RegExp,
  ][] = [
    [
      "no architecture",
      (draft) => draft.drop("general.architecture"),
      "INVALID_GGUF",
      /does not say general\.architecture/,
    ],
    [
      "an unknown architecture",
      (draft) => draft.set("general.architecture", "mind"),
      "UNSUPPORTED_MODEL",
      /architecture is 'mind'/,
    ],
    [
      "a projector's architecture",
      (draft) => draft.set("general.architecture", "clip"),
      "UNSUPPORTED_MODEL",
      /load the language model/,
    ],
    ["an unknown tokenizer", (draft) => draft.set("tokenizer.ggml.model", "abacus"), "LOAD_FAILED", /abacus/],
    ["a missing tensor", (draft) => draft.dropTensor("blk.2.ffn_up.weight"), "LOAD_FAILED", /blk\.2\.ffn_up\.weight/],
    [
      "a tensor of another shape",
      (draft) => draft.tensor("blk.2.ffn_up.weight").shape.reverse(),
      "LOAD_FAILED",
      /blk\.2\.ffn_up\.weight.*shape/,
    ],
    ["a missing hyperparameter", (draft) => draft.drop("llama.block_count"), "LOAD_FAILED", /llama\.block_count/],
    ["no layers", (draft) => draft.set("llama.block_count", 0), "UNSUPPORTED_MODEL", /llama\.block_count is 0/],
    ["millions of layers", (draft) => draft.set("llama.block_count", 4e9), "UNSUPPORTED_MODEL", /from 1 to 512/],
    [
      "a negative epsilon",
      (draft) => draft.set("llama.attention.layer_norm_rms_epsilon", -1),
      "UNSUPPORTED_MODEL",
      /at least 0/,
    ],
    [
      "a NaN epsilon",
      (draft) => draft.set("llama.attention.layer_norm_rms_epsilon", NaN),
      "UNSUPPORTED_MODEL",
      /is nan/,
    ],
    [
      "a token that occurs twice",
      (draft) => draft.array("tokenizer.ggml.tokens").fill("a", 600),
      "UNSUPPORTED_MODEL",
      /Token 60\d of/,
    ],
    [
      "an alignment that llama.cpp aborts on",
      (draft) => draft.put({ key: "general.alignment", type: "uint32", value: 8 }),
      "UNSUPPORTED_MODEL",
      /general\.alignment is 8/,
    ],
    ["no vocabulary", (draft) => draft.drop("tokenizer.ggml.tokens"), "LOAD_FAILED", /vocab/],
  ];
  for (const [name, edit, code, message] of refusals) {
    it(`with ${name} is refused`, () => assert.rejects(loadModel(changed(edit)), coldstartError(code, message)));
  }
});
