// Checkpoints with damage at random places: converted, or refused for a reason; nothing else.

import fc from "fast-check";
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { ColdstartError, convertModel } from "../lib/index.js";
import { writeJson, writeWeights } from "./support/checkpoint.js";
import { FAMILIES } from "./support/checkpoint-families.js";
import { sentencePieceJson, sentencePieceModel, sentencePieces } from "./support/hf-tokenizers.js";

const RUNS = 150;

describe("convertModel() with damage at random", () => {
  const pieces = sentencePieces();
  let folder: string;
  before(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
    const { config, reference } = FAMILIES["llama"]!();
    writeJson(folder, {
      "config.json": { ...config, vocab_size: pieces.length },
      "tokenizer.model": sentencePieceModel(pieces),
      "tokenizer.json": sentencePieceJson(pieces),
      "tokenizer_config.json": { bos_token: "<s>", eos_token: "</s>", add_bos_token: true },
    });
    const tensors = new Map(reference.tensors);
    for (const name of ["lm_head.weight", "model.embed_tokens.weight"])
      tensors.set(name, { type: "F32", shape: [pieces.length, 32], data: new Uint8Array(4 * 32 * pieces.length) });
    writeWeights(folder, tensors, 1);
  });
  after(() => rmSync(folder, { recursive: true }));

  it("converts without it", () => convertModel(folder, path.join(folder, "model.gguf")));

  // Of the weights only the header: everything else is a number like any other.
  for (const [name, end] of Object.entries({
    "config.json": Infinity,
    "tokenizer_config.json": Infinity,
    "tokenizer.json": Infinity,
    "tokenizer.model": Infinity,
    "model.safetensors": 2000,
  })) {
    it(`says what is wrong with ${name}, where it sees it`, async () => {
      const file = path.join(folder, name);
      const sound = readFileSync(file);
      const place = fc.nat(Math.min(end, sound.length) - 1);
      const edits = fc.array(fc.tuple(place, fc.nat(255)), { minLength: 1, maxLength: 4 });
      try {
        await fc.assert(
          fc.asyncProperty(edits, fc.option(place, { freq: 4 }), async (changes, cut) => {
            const damaged = Buffer.from(sound);
            for (const [at, byte] of changes) damaged[at] = byte;
            writeFileSync(file, damaged.subarray(0, cut ?? damaged.length));
            await convertModel(folder, path.join(folder, "damaged.gguf")).catch((error: unknown) => {
              assert.ok(error instanceof ColdstartError, String(error));
              assert.match(error.code, /^(INVALID_CHECKPOINT|UNSUPPORTED_MODEL)$/);
              assert.ok(!readdirSync(folder).some((other) => other.includes("partial")));
            });
          }),
          { numRuns: RUNS },
        );
      } finally {
        writeFileSync(file, sound);
      }
    });
  }
});
