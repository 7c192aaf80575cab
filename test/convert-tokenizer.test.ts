// Tokenizers of checkpoints: after conversion, the same tokens as by Hugging Face's own implementation.

import { Tokenizer } from "@huggingface/tokenizers";
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { convertModel, inspectGguf, type ErrorCode, type GgufInfo } from "../lib/index.js";
import { writeJson, writeWeights } from "./support/checkpoint.js";
import { FAMILIES, VOCABULARY_SIZE } from "./support/checkpoint-families.js";
import { coldstartError } from "./support/errors.js";
import {
  byteLevelTokenizer,
  sentencePieceJson,
  sentencePieceModel,
  sentencePieces,
  TRAINING_TEXT,
  type SentencePieceOptions,
} from "./support/hf-tokenizers.js";
import { withModel } from "./support/models.js";

// Its declarations import files without their extensions, which TypeScript does not find in modules of Node.js.
const HuggingFaceTokenizer = Tokenizer as unknown as new (
  tokenizer: object,
  config: object,
) => { encode(text: string): { ids: number[] } };

const TEXTS = [
  TRAINING_TEXT,
  "",
  "time",
  " time  time   time ",
  "I'm, you're, HE'S, they'LL; don't",
  "1 22 333 4444 55555 3.14 1,000,000",
  "tabs\tand\n\n\nlines \n \r\n end\n",
  "CamelCase mixedCASE ALLCAPS été ÉTÉ",
  "漢字 🦊 👩‍👩‍👧 Привет, мир! مرحبا नमस्ते",
  "!!! ??? --- ==> // ## <|im| [INST] {}",
  "nothing\u00a0but\u2003spaces\u3000",
];

describe("tokenizers of checkpoints", () => {
  let folder: string;
  let output: string;
  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
    output = path.join(folder, "model.gguf");
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  function writeCheckpoint(files: Record<string, unknown>, vocabularySize = VOCABULARY_SIZE): void {
    const { config, reference } = FAMILIES["llama"]!();
    const tensors = new Map(reference.tensors);
    for (const name of ["lm_head.weight", "model.embed_tokens.weight"]) {
      const data = new Uint8Array(4 * vocabularySize * 32);
      tensors.set(name, { type: "F32", shape: [vocabularySize, 32], data });
    }
    writeJson(folder, { "config.json": { ...config, vocab_size: vocabularySize }, ...files });
    writeWeights(folder, tensors, 1);
  }

  async function converted(files: Record<string, unknown>, vocabularySize?: number): Promise<GgufInfo["metadata"]> {
    writeCheckpoint(files, vocabularySize);
    await convertModel(folder, output);
    return (await inspectGguf(output, { arrayLimit: Infinity })).metadata;
  }

  async function assertSameTokens(tokenizer: object, texts: readonly string[] = TEXTS): Promise<void> {
    const theirs = new HuggingFaceTokenizer(tokenizer, {});
    await withModel({ path: output }, async (model) => {
      for (const text of texts)
        assert.deepEqual(await model.tokenize(text), theirs.encode(text).ids, JSON.stringify(text));
    });
  }

  describe("over bytes", () => {
    for (const [name, options, expected] of [
      ["Llama 3's", { pre: "llama3", ignoreMerges: true, bos: "<|begin_of_text|>" }, "llama-bpe"],
      ["Llama 3's, with merges obeyed", { pre: "llama3" }, "dbrx"],
      ["Qwen2's", { pre: "qwen2", normalizer: { type: "NFC" } }, "qwen2"],
      ["Mistral's Tekken", { pre: "tekken", bos: "<s>" }, "tekken"],
      ["GPT-2's", { pre: "gpt2" }, "gpt-2"],
      ["SmolLM's", { pre: "smollm" }, "smollm"],
    ] as const) {
      it(`split texts as ${name}`, async () => {
        const tokenizer = byteLevelTokenizer({ eos: "<|end|>", ...options });
        const metadata = await converted({
          "tokenizer.json": tokenizer,
          "tokenizer_config.json": {
            bos_token: "bos" in options ? options.bos : null,
            eos_token: { content: "<|end|>" },
          },
        });
        assert.equal(metadata["tokenizer.ggml.pre"], expected);
        assert.equal(metadata["tokenizer.ggml.add_bos_token"], "bos" in options);
        await assertSameTokens(tokenizer, [...TEXTS, "one<|end|>two<tool_call>three <tool_call> "]);
      });
    }

    it("fill the rest of the embedding with tokens that do not occur", async () => {
      const tokenizer = byteLevelTokenizer({ pre: "qwen2", eos: "<|end|>" });
      const metadata = await converted({ "tokenizer.json": tokenizer });
      const tokens = metadata["tokenizer.ggml.tokens"] as { values: string[] };
      const types = metadata["tokenizer.ggml.token_type"] as { values: number[] };
      assert.equal(tokens.values.length, VOCABULARY_SIZE);
      assert.equal(tokens.values.at(-1), `[PAD${VOCABULARY_SIZE - 1}]`);
      assert.equal(types.values.at(-1), 5);
      const end = tokens.values.indexOf("<|end|>");
      assert.deepEqual(types.values.slice(end, end + 2), [3, 4]);
    });

    it("may write merges as pairs in one text", async () => {
      const tokenizer = byteLevelTokenizer({ pre: "qwen2", eos: "<|end|>" });
      tokenizer.model.merges = tokenizer.model.merges.map((pair) => (pair as string[]).join(" "));
      await converted({ "tokenizer.json": tokenizer });
      await assertSameTokens(tokenizer);
    });
  });

  describe("of SentencePiece", () => {
    const pieces = sentencePieces();
    const size = pieces.length + 2;
    const json = sentencePieceJson(pieces);

    it("are read from tokenizer.model", async () => {
      const metadata = await converted({ "tokenizer.model": sentencePieceModel(pieces) }, size);
      assert.equal(metadata["tokenizer.ggml.model"], "llama");
      assert.equal(metadata["tokenizer.ggml.add_space_prefix"], true);
      const tokens = metadata["tokenizer.ggml.tokens"] as { values: string[] };
      assert.deepEqual(
        tokens.values.slice(0, pieces.length),
        pieces.map(({ text }) => text),
      );
      const types = metadata["tokenizer.ggml.token_type"] as { values: number[] };
      assert.deepEqual(
        types.values.slice(0, pieces.length),
        pieces.map(({ type }) => type),
      );
    });

    for (const [name, files] of Object.entries({
      "tokenizer.model": { "tokenizer.model": sentencePieceModel(pieces), "tokenizer.json": json },
      "tokenizer.json alone": { "tokenizer.json": json },
    })) {
      it(`give the tokens of Hugging Face's, from ${name}`, async () => {
        await converted({ ...files, "tokenizer_config.json": { bos_token: "<s>", eos_token: "</s>" } }, size);
        // An empty text is nothing to put a space in front of, for one, and just a space for the other.
        await assertSameTokens(
          json,
          TEXTS.filter((text) => text !== ""),
        );
      });
    }

    it("put no space in front where they are told so", async () => {
      const model = sentencePieceModel(pieces, { addDummyPrefix: false });
      const metadata = await converted({ "tokenizer.model": model }, size);
      assert.equal(metadata["tokenizer.ggml.add_space_prefix"], false);
      const spaces = { type: "Replace", pattern: { String: " " }, content: "\u2581" };
      const gemma = { ...json, normalizer: spaces };
      gemma.pre_tokenizer = { type: "Split", pattern: { String: " " }, behavior: "MergedWithPrevious", invert: false };
      rmSync(path.join(folder, "tokenizer.model"));
      const last = await converted({ "tokenizer.json": gemma }, size);
      assert.equal(last["tokenizer.ggml.add_space_prefix"], false);
    });

    const cases: [string, Record<string, unknown>, ErrorCode, RegExp][] = [
      [
        "unigrams",
        { "tokenizer.model": sentencePieceModel(pieces, { modelType: 1 }) },
        "UNSUPPORTED_MODEL",
        /type unigram/,
      ],
      ["rules of its own", model({ charsmap: "x" }), "UNSUPPORTED_MODEL", /precompiled_charsmap/],
      [
        "a truncated file",
        { "tokenizer.model": sentencePieceModel(pieces).subarray(0, 999) },
        "INVALID_CHECKPOINT",
        /damaged/,
      ],
      ["something else", { "tokenizer.model": "hello, world" }, "INVALID_CHECKPOINT", /tokenizer\.model/],
      [
        "missing bytes",
        { "tokenizer.model": sentencePieceModel(pieces.filter(({ text }) => text !== "<0x41>")) },
        "UNSUPPORTED_MODEL",
        /255 tokens for bytes/,
      ],
      [
        "merges that are not SentencePiece's",
        { "tokenizer.json": { ...json, model: { ...json.model, merges: json.model.merges.toReversed().slice(1) } } },
        "UNSUPPORTED_MODEL",
        /not made of a SentencePiece model/,
      ],
      [
        "an unknown pre-tokenizer",
        { "tokenizer.json": { ...json, pre_tokenizer: { type: "Whitespace" } } },
        "UNSUPPORTED_MODEL",
        /pre-tokenizer is not known: .*Whitespace/,
      ],
    ];
    function model(options: SentencePieceOptions) {
      return { "tokenizer.model": sentencePieceModel(pieces, options) };
    }
    for (const [what, files, code, message] of cases) {
      it(`are refused with ${what}`, async () => {
        writeCheckpoint(files, size);
        await assert.rejects(convertModel(folder, output), coldstartError(code, message));
        assert.ok(!existsSync(output));
      });
    }
  });

  describe("special tokens", () => {
    const tokenizer = byteLevelTokenizer({ pre: "llama3", ignoreMerges: true, bos: "<|begin|>", eos: "<|end|>" });
    const [bos, eos] = tokenizer.added_tokens.map(({ id }) => id) as [number, number];

    it("come from tokenizer_config.json, generation_config.json and special_tokens_map.json", async () => {
      const metadata = await converted({
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": { bos_token: "<|begin|>", add_bos_token: false },
        "special_tokens_map.json": { pad_token: { content: "<|end|>" } },
        "generation_config.json": { eos_token_id: [eos, 65, 66] },
      });
      const special = (name: string) => metadata[`tokenizer.ggml.${name}`];
      assert.deepEqual(
        ["bos", "eos", "padding", "eot", "eom"].map((name) => special(`${name}_token_id`)),
        [bos, eos, eos, 65, 66],
      );
      assert.equal(special("add_bos_token"), false);
      assert.equal(special("add_eos_token"), false);
    });

    it("end a generation, all of them", async () => {
      await converted({ "tokenizer.json": tokenizer, "generation_config.json": { eos_token_id: [eos, 65] } });
      await withModel({ path: output }, async (loaded) => {
        const { finishReason } = await loaded.generate("a", { logitBias: { 65: 100 }, maxTokens: 3 }).result;
        assert.equal(finishReason, "stop");
      });
    });

    it("go with a chat template, from a file of its own or from tokenizer_config.json", async () => {
      const template = async (files: Record<string, unknown>) =>
        (await converted({ "tokenizer.json": tokenizer, ...files }))["tokenizer.chat_template"];
      assert.equal(await template({ "tokenizer_config.json": { chat_template: "{{ a }}" } }), "{{ a }}");
      const named = [
        { name: "default", template: "{{ b }}" },
        { name: "tool_use", template: "{{ c }}" },
      ];
      assert.equal(await template({ "tokenizer_config.json": { chat_template: named } }), "{{ b }}");
      assert.equal((await inspectGguf(output)).metadata["tokenizer.chat_template.tool_use"], "{{ c }}");
      assert.equal(await template({ "chat_template.jinja": "{{ d }}" }), "{{ d }}");
    });
  });
});
