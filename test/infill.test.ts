// Filling in between a prompt and a suffix. What comes is asked of llama-server.

import assert from "node:assert/strict";
import { editMetadata } from "../lib/index.js";
import { coldstartError } from "./support/errors.js";
import { withLlamaServer } from "./support/llama-server.js";
import { TINY_STORIES, withModel } from "./support/models.js";
import { temporaryFolder } from "./support/temporary-folder.js";

describe("suffix", () => {
  const folder = temporaryFolder();

  /** The embedded model, with three of its tokens taken for filling in. */
  const fillingModel = async () => {
    const file = folder.path("filling.gguf");
    const add = Object.fromEntries(
      ["prefix", "suffix", "middle"].map((name, i) => [
        `tokenizer.ggml.${name}_token_id`,
        { type: "uint32" as const, value: 600 + i },
      ]),
    );
    await editMetadata(TINY_STORIES, { add }, { output: file });
    return file;
  };

  it("is what an answer goes before, as llama-server has it", async () => {
    const path = await fillingModel();
    const cases = [
      ["Once upon a time, there was", " They played all day."],
      ["", "The end."],
      ["One day, <s> Mia", ""],
    ] as const;
    await withLlamaServer(path, [], async (url) => {
      await withModel({ path }, async (model) => {
        for (const [prompt, suffix] of cases) {
          const body = {
            input_prefix: prompt,
            input_suffix: suffix,
            n_predict: 24,
            temperature: 0,
            cache_prompt: false,
          };
          const response = await fetch(`${url}/infill`, { method: "POST", body: JSON.stringify(body) });
          const expected = ((await response.json()) as { content: string }).content;
          const text = await model.generate(prompt, { suffix, maxTokens: 24, temperature: 0 }).text();
          assert.equal(text, expected, prompt);
        }
      });
    });
  }).timeout(60_000);

  it("needs a vocabulary that has tokens for it, and a text before it", async () => {
    await withModel({}, async (model) => {
      await assert.rejects(
        model.generate("One day,", { suffix: "The end." }).result,
        coldstartError("UNSUPPORTED_MODEL", /no tokens for filling in/),
      );
      assert.throws(() => model.generate([3, 4], { suffix: "x" }), coldstartError("INVALID_OPTION", /suffix/));
      assert.throws(() => model.generate("x", { suffix: 3 as never }), coldstartError("INVALID_OPTION", /suffix/));
      assert.throws(() => model.session().generate("x", { suffix: "y" }), coldstartError("INVALID_OPTION", /suffix/));
      const options = { suffix: "y", chatTemplate: "chatml" } as object;
      assert.throws(
        () => model.answer([{ role: "user", content: "x" }], options),
        coldstartError("INVALID_OPTION", /suffix/),
      );
    });
  });
});
