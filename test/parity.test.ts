// The same tokens as llama.cpp's own tools, built from the same pin (npm test builds them first).

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import { PROMPT, root, STORIES_260K, STORIES_260K_GREEDY, TINY_STORIES, withModel } from "./support/models.js";

const run = promisify(execFile);
const tool = (name: string) => path.join(root, "build", "cmake", "bin", name);

describe("parity with llama.cpp's tools", () => {
  const prompts = [
    PROMPT,
    "One day,",
    "Once there was a girl named Mia",
    "The quick brown fox — 漢字 🦊 jumps.\n\n  Two  spaces",
  ];

  for (const [name, file] of Object.entries({ "the embedded model": TINY_STORIES, stories260K: STORIES_260K })) {
    describe(`on ${name}`, () => {
      before(function () {
        if (file === undefined) this.skip(); // The file is not on this machine.
      });

      for (const prompt of prompts) {
        it(`tokenizes ${JSON.stringify(prompt)} as llama-tokenize`, async () => {
          const { stdout } = await run(tool("llama-tokenize"), [
            "-m",
            file!,
            "-p",
            prompt,
            "--ids",
            "--log-disable",
            "--no-escape",
          ]);
          const expected = JSON.parse(stdout.trim()) as number[];
          await withModel({ path: file! }, async (model) => {
            assert.deepEqual(await model.tokenize(prompt), expected);
            assert.equal(await model.detokenize(expected), prompt);
          });
        });

        it(`continues ${JSON.stringify(prompt)} greedily as llama-simple`, async () => {
          const { stdout } = await run(tool("llama-simple"), ["-m", file!, "-n", "100", "-ngl", "0", prompt]);
          await withModel({ path: file!, contextLength: 256 }, async (model) => {
            const { tokens } = await model.generate(prompt, { temperature: 0, maxTokens: 100 }).result;
            // llama-simple prints special tokens, and none at the end of the text.
            const ours = await model.detokenize([...(await model.tokenize(prompt)), ...tokens], {
              renderSpecial: true,
            });
            assert.equal(ours.trim(), stdout.trim());
          });
        });
      }
    });
  }

  it("continues as recorded for stories260K", async function () {
    if (STORIES_260K === undefined) return this.skip();
    await withModel({ path: STORIES_260K, contextLength: 512 }, async (model) => {
      const text = await model.generate("Once upon a time", { temperature: 0, maxTokens: 300 }).text();
      assert.equal(text.slice(0, STORIES_260K_GREEDY!.length), STORIES_260K_GREEDY);
    });
  });
});
