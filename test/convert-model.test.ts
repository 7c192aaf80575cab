// Checkpoints in Hugging Face's layout, converted and run, beside a forward pass of the tests' own.

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { convertModel, inspectGguf, type ConvertOptions, type ErrorCode } from "../lib/index.js";
import {
  encodeSafetensors,
  f32,
  toBf16,
  valuesOf,
  writeJson,
  writeWeights,
  type RawTensor,
  type SafetensorsOptions,
  type Tensors,
} from "./support/checkpoint.js";
import { FAMILIES, type TestFamily } from "./support/checkpoint-families.js";
import { coldstartError } from "./support/errors.js";
import { byteLevelTokenizer } from "./support/hf-tokenizers.js";
import { withModel } from "./support/models.js";
import { referenceLogprobs, type ReferenceModel } from "./support/reference-model.js";

const TOKENIZER = byteLevelTokenizer({ pre: "qwen2", eos: "<|endoftext|>" });
const PROMPT = [7, 45, 300, 12, 12, 99, 256, 3, 81, 200, 5, 17];
const NEW_TOKENS = 8;

describe("convertModel()", () => {
  let folder: string;
  let output: string;
  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
    output = path.join(folder, "model.gguf");
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  function writeCheckpoint({ config, reference }: TestFamily, shards = 2, tensors: Tensors = reference.tensors): void {
    writeJson(folder, {
      "config.json": config,
      "tokenizer.json": TOKENIZER,
      "tokenizer_config.json": { eos_token: "<|endoftext|>", bos_token: null },
    });
    writeWeights(folder, tensors, shards);
  }

  /** Compares what coldstart computes for a prompt and the tokens that it continues with. */
  async function assertSameLogprobs(file: string, reference: ReferenceModel, tolerance: number): Promise<void> {
    await withModel(
      { path: file, kvCache: { keyType: "f32", valueType: "f32" }, flashAttention: false },
      async (model) => {
        const result = await model.generate(PROMPT, { temperature: 0, maxTokens: NEW_TOKENS, logprobs: 40 }).result;
        assert.equal(result.logprobs?.length, NEW_TOKENS);
        const expected = referenceLogprobs(reference, [...PROMPT, ...result.tokens]);
        result.logprobs.forEach(({ top }, i) => {
          const row = expected[PROMPT.length - 1 + i]!;
          assert.equal(top.length, 40);
          for (const { token, logprob } of top) {
            const apart = Math.abs(logprob - row[token]!);
            assert.ok(apart < tolerance, `token ${token} at ${i}: ${logprob}, and not ${row[token]!}`);
          }
        });
      },
    );
  }

  for (const [name, make] of Object.entries(FAMILIES)) {
    it(`converts ${name}`, async () => {
      const family = make();
      writeCheckpoint(family);
      const result = await convertModel(folder, output);
      assert.equal(result.type, "F32");
      // ggml looks GELU up in a table of F16.
      await assertSameLogprobs(output, family.reference, family.reference.activation === "gelu" ? 3e-3 : 1e-3);
    });
  }

  it("finds the language model in a checkpoint that also sees", async () => {
    const family = FAMILIES["gemma3"]!();
    const { architectures: _, ...text } = family.config;
    const tensors: Tensors = new Map(
      [...family.reference.tensors].map(([name, tensor]) => [`language_model.${name}`, tensor]),
    );
    tensors.set(
      "vision_tower.vision_model.post_layernorm.weight",
      f32([4], () => 1),
    );
    tensors.set(
      "multi_modal_projector.mm_soft_emb_norm.weight",
      f32([4], () => 1),
    );
    const config = { architectures: ["Gemma3ForConditionalGeneration"], text_config: text };
    writeCheckpoint({ ...family, config }, 3, tensors);
    await convertModel(folder, output);
    await assertSameLogprobs(output, family.reference, 3e-3);
  });

  describe("types", () => {
    const family = FAMILIES["llama"]!();
    const halves = [...family.reference.tensors].map(([name, tensor]) => ({ name, ...toBf16(tensor) }));
    const rounded = { ...family.reference, tensors: new Map(halves.map(({ name, rounded }) => [name, rounded])) };
    const stored: Tensors = new Map(halves.map(({ name, stored }) => [name, stored]));

    it("keeps BF16, and says so", async () => {
      writeCheckpoint(family, 1, stored);
      const result = await convertModel(folder, output);
      assert.equal(result.type, "BF16");
      const { tensors, quantization } = await inspectGguf(output);
      assert.equal(quantization, "BF16");
      const types = Object.fromEntries(tensors.map(({ name, type }) => [name, type]));
      assert.equal(types["blk.0.attn_q.weight"], "bf16");
      assert.equal(types["blk.0.attn_norm.weight"], "f32");
    });

    it("widens BF16 to F32 exactly", async () => {
      writeCheckpoint(family, 1, stored);
      await convertModel(folder, output, { type: "F32" });
      await assertSameLogprobs(output, rounded, 1e-3);
    });

    it("rounds F32 to F16 and BF16, to the nearest", async () => {
      for (const [type, values] of [
        ["F16", [1, 1 + 2 ** -11, 1 + 3 * 2 ** -11, -65519, 2 ** -24]],
        ["BF16", [1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, -3e38, 2 ** -130]],
      ] as const) {
        const tensors = new Map(family.reference.tensors);
        const embedding = valuesOf(tensors.get("model.embed_tokens.weight")!).slice();
        embedding.set(values);
        tensors.set("model.embed_tokens.weight", {
          type: "F32",
          shape: [384, 32],
          data: new Uint8Array(embedding.buffer),
        });
        writeCheckpoint(family, 1, tensors);
        await convertModel(folder, output, { type });
        const { tensors: infos, dataOffset } = await inspectGguf(output);
        const at = dataOffset + infos.find(({ name }) => name === "token_embd.weight")!.offset;
        const bits = [0, 1, 2, 3, 4].map((i) => readFileSync(output).readUInt16LE(at + 2 * i));
        // Ties go to the even neighbour.
        const expected =
          type === "F16" ? [0x3c00, 0x3c00, 0x3c02, 0xfbff, 0x0001] : [0x3f80, 0x3f80, 0x3f82, 0xff62, 0x0008];
        assert.deepEqual(bits, expected);
      }
    });

    it("reads 8 bits, exactly", async () => {
      const tensors = new Map(family.reference.tensors);
      // Signs, subnormal numbers and the largest, 448 (OCP 8-bit Floating Point Specification, table 2).
      const codes = [0x38, 0xb8, 0x01, 0x07, 0x08, 0x7e, 0x40, 0x00];
      const values = [1, -1, 2 ** -9, 7 * 2 ** -9, 2 ** -6, 448, 2, 0];
      const data = Uint8Array.from({ length: 384 * 32 }, (_, i) => codes[i % 8]!);
      tensors.set("model.embed_tokens.weight", { type: "F8_E4M3", shape: [384, 32], data });
      writeCheckpoint(family, 1, tensors);
      await convertModel(folder, output, { type: "F32" });
      const { tensors: infos, dataOffset } = await inspectGguf(output);
      const at = dataOffset + infos.find(({ name }) => name === "token_embd.weight")!.offset;
      assert.deepEqual(
        values.map((_, i) => readFileSync(output).readFloatLE(at + 4 * i)),
        values,
      );
    });
  });

  describe("on its way", () => {
    it("tells how far it is, up to 1", async () => {
      writeCheckpoint(FAMILIES["qwen3"]!());
      const seen: number[] = [];
      await convertModel(folder, output, { onProgress: (fraction) => seen.push(fraction) });
      assert.equal(seen.at(-1), 1);
      assert.deepEqual(
        seen,
        [...seen].sort((a, b) => a - b),
      );
    });

    it("leaves nothing behind when it is aborted, and the file of before", async () => {
      writeCheckpoint(FAMILIES["qwen3"]!());
      writeFileSync(output, "before");
      const abort = new AbortController();
      await assert.rejects(
        convertModel(folder, output, { signal: abort.signal, onProgress: () => abort.abort() }),
        coldstartError("ABORTED"),
      );
      assert.equal(readFileSync(output, "utf8"), "before");
      assert.ok(!readdirSync(folder).some((name) => name.includes("partial")));
    });

    it("ends with what onProgress throws", async () => {
      writeCheckpoint(FAMILIES["qwen3"]!());
      const failure = new Error("enough");
      const onProgress = () => {
        throw failure;
      };
      await assert.rejects(convertModel(folder, output, { onProgress }), failure);
      assert.ok(!existsSync(output));
    });
  });

  describe("refuses", () => {
    const family = FAMILIES["llama"]!();
    const first = () => path.join(folder, "model-00001-of-00002.safetensors");

    /** Converts the checkpoint after `damage`; no file may come of it. */
    async function refused(damage: () => void, code: ErrorCode, message: RegExp, options: ConvertOptions = {}) {
      writeCheckpoint(family);
      damage();
      await assert.rejects(convertModel(folder, output, options), coldstartError(code, message));
      assert.ok(!existsSync(output));
      assert.ok(!readdirSync(folder).some((name) => name.includes("partial")));
    }
    const config = (changes: Record<string, unknown>) => () =>
      writeJson(folder, { "config.json": { ...family.config, ...changes } });
    const tokenizer = (change: (tokenizer: typeof TOKENIZER) => void) => () => {
      const changed = structuredClone(TOKENIZER);
      change(changed);
      writeJson(folder, { "tokenizer.json": changed });
    };
    const weights =
      (change: (tensors: Tensors) => void, options: SafetensorsOptions = {}) =>
      () => {
        rmSync(path.join(folder, "model.safetensors.index.json"));
        const tensors = new Map(family.reference.tensors);
        change(tensors);
        writeFileSync(path.join(folder, "model.safetensors"), encodeSafetensors(tensors, options));
      };
    const header = (options: SafetensorsOptions) => weights(() => undefined, options);
    const INVALID = "INVALID_CHECKPOINT";
    const UNSUPPORTED = "UNSUPPORTED_MODEL";

    const cases: [what: string, damage: () => void, code: ErrorCode, message: RegExp, options?: ConvertOptions][] = [
      ["a folder without config.json", () => rmSync(path.join(folder, "config.json")), INVALID, /has no config\.json/],
      [
        "a config.json that is none",
        () => writeJson(folder, { "config.json": "{" }),
        INVALID,
        /config\.json is not JSON/,
      ],
      [
        "another architecture",
        config({ architectures: ["MindForCausalLM"] }),
        UNSUPPORTED,
        /is MindForCausalLM\. Known/,
      ],
      ["no architecture", config({ architectures: undefined }), INVALID, /architectures of config\.json is missing/],
      ["text in the place of a number", config({ hidden_size: "32" }), INVALID, /hidden_size of config\.json is "32"/],
      ["a size that is none", config({ num_hidden_layers: -1 }), INVALID, /num_hidden_layers of config\.json is -1/],
      ["layers without end", config({ num_hidden_layers: 2 ** 31 - 1 }), INVALID, /must be at most 512/],
      ["heads that cannot share", config({ num_key_value_heads: 3 }), INVALID, /must divide 4 heads/],
      ["another activation", config({ hidden_act: "relu" }), UNSUPPORTED, /activation function is "relu"/],
      [
        "another scaling of angles",
        config({ rope_scaling: { rope_type: "longrope" } }),
        UNSUPPORTED,
        /type "longrope"/,
      ],
      [
        "an unknown setting of angles",
        config({ rope_scaling: { rope_type: "yarn", factor: 2, mscale: 3 } }),
        UNSUPPORTED,
        /the setting mscale/,
      ],
      ["scaling without a factor", config({ rope_scaling: { type: "linear" } }), INVALID, /factor of rope_scaling/],
      ["quantized weights", config({ quantization_config: { quant_method: "hqq" } }), UNSUPPORTED, /method "hqq"/],
      [
        "a shape that config.json contradicts",
        config({ intermediate_size: 47 }),
        INVALID,
        /shape \[48, 32\].*asks for \[47, 32\]/,
      ],
      ["missing layers", config({ num_hidden_layers: 3 }), INVALID, /no tensor model\.layers\.2\./],
      [
        "layers that are too many",
        config({ num_hidden_layers: 1 }),
        UNSUPPORTED,
        /tensor model\.layers\.1\..* is not known/,
      ],
      ["a truncated shard", () => truncateSync(first(), 2000), INVALID, /ends at byte|header ends/],
      ["an empty shard", () => truncateSync(first(), 0), INVALID, /not even the length/],
      ["a missing shard", () => rmSync(first()), INVALID, /no file .*00001-of-00002/],
      [
        "an absurd length of the header",
        header({ length: 2n ** 63n }),
        INVALID,
        /would have 9223372036854775808 bytes/,
      ],
      ["a header beyond the file", header({ length: 99_000_000n }), INVALID, /its header ends at byte 99000008/],
      ["a header that is no JSON", header({ text: (text) => text.slice(1) }), INVALID, /is not JSON/],
      [
        "a tensor twice",
        header({ text: (text) => text.replace('"model.norm.weight"', '"lm_head.weight"') }),
        INVALID,
        /"lm_head\.weight" twice/,
      ],
      [
        "tensors that overlap",
        header({
          header: (all) => {
            all["model.norm.weight"]!.data_offsets = [0, 128];
          },
        }),
        INVALID,
        /overlaps|does not follow/,
      ],
      [
        "a tensor beyond the file",
        header({
          header: (all) => {
            all["model.norm.weight"]!.data_offsets = [2 ** 52, 2 ** 52 + 128];
          },
        }),
        INVALID,
        /model\.norm\.weight ends at byte 4503599627370624/,
      ],
      [
        "shapes whose product overflows",
        header({
          header: (all) => {
            all["model.norm.weight"]!.shape = [2 ** 40, 2 ** 40];
          },
        }),
        INVALID,
        /the shape \[1099511627776, 1099511627776\] needs/,
      ],
      [
        "negative offsets",
        header({
          header: (all) => {
            all["model.norm.weight"]!.data_offsets = [-128, 0];
          },
        }),
        INVALID,
        /data_offsets of model\.norm\.weight/,
      ],
      [
        "an unknown type of tensor",
        header({
          header: (all) => {
            all["model.norm.weight"]!.dtype = "F7";
          },
        }),
        UNSUPPORTED,
        /model\.norm\.weight has the type F7/,
      ],
      [
        "a type that weights do not have",
        weights((tensors) =>
          tensors.set("model.norm.weight", { type: "I64", shape: [32], data: new Uint8Array(256) } satisfies RawTensor),
        ),
        UNSUPPORTED,
        /model\.norm\.weight has the type I64; known for weights/,
      ],
      [
        "a missing tensor",
        weights((tensors) => tensors.delete("lm_head.weight")),
        INVALID,
        /no tensor lm_head\.weight/,
      ],
      [
        "a tensor that nobody knows",
        weights((tensors) =>
          tensors.set(
            "model.layers.0.mlp.up_proj.weight_scale",
            f32([1], () => 1),
          ),
        ),
        UNSUPPORTED,
        /weight_scale is not known/,
      ],
      [
        "weights that are NaN",
        weights((tensors) =>
          tensors.set(
            "model.norm.weight",
            f32([32], (i) => (i === 5 ? NaN : 1)),
          ),
        ),
        INVALID,
        /weight 5 of the tensor model\.norm\.weight is NaN/,
      ],
      [
        "weights that F16 cannot hold",
        weights((tensors) =>
          tensors.set(
            "lm_head.weight",
            f32([384, 32], (i) => (i === 40 ? 65520 : 1)),
          ),
        ),
        INVALID,
        /weight 40 of the tensor lm_head\.weight is too large for F16.*BF16/,
        { type: "F16" },
      ],
      [
        "an index that leads out of the folder",
        () =>
          writeJson(folder, { "model.safetensors.index.json": { weight_map: { "a.weight": "../model.safetensors" } } }),
        INVALID,
        /must be the name of a \.safetensors file in the folder/,
      ],
      [
        "an index with a tensor twice",
        () =>
          writeJson(folder, {
            "model.safetensors.index.json": '{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}',
          }),
        INVALID,
        /has "a" twice/,
      ],
      ["no tokenizer", () => rmSync(path.join(folder, "tokenizer.json")), INVALID, /neither tokenizer\.json nor/],
      [
        "another kind of tokenizer",
        tokenizer((json) => {
          json.model.type = "WordPiece";
        }),
        UNSUPPORTED,
        /model is WordPiece/,
      ],
      [
        "an unknown pre-tokenizer",
        tokenizer((json) => {
          json.pre_tokenizer = { type: "Sequence", pretokenizers: [{ type: "Whitespace" }, { type: "ByteLevel" }] };
        }),
        UNSUPPORTED,
        /pre-tokenizer is not known: .*Whitespace/,
      ],
      [
        "an unknown normalizer",
        tokenizer((json) => {
          json.normalizer = { type: "Lowercase" };
        }),
        UNSUPPORTED,
        /normalizer is Lowercase/,
      ],
      [
        "two tokens with one id",
        tokenizer((json) => {
          json.model.vocab["!"] = 1;
        }),
        INVALID,
        /have the id 1/,
      ],
      [
        "more tokens than the embedding has",
        tokenizer((json) => {
          json.model.vocab["!"] = 384;
        }),
        INVALID,
        /id 384, and the model's vocab_size is 384/,
      ],
      [
        "merges of what are no tokens",
        tokenizer((json) => {
          json.model.merges.push(["qq", "qq"]);
        }),
        INVALID,
        /merge of tokenizer\.json has "qq"/,
      ],
      [
        "special tokens that are none",
        () => writeJson(folder, { "tokenizer_config.json": { eos_token: "<end>" } }),
        INVALID,
        /eos_token of tokenizer_config\.json is "<end>"/,
      ],
    ];
    for (const [what, damage, code, message, options] of cases) {
      it(what, () => refused(damage, code, message, options));
    }

    it("a folder that is not there, or a file", async () => {
      await assert.rejects(
        convertModel(path.join(folder, "x"), output),
        coldstartError("MODEL_NOT_FOUND", /no folder at/),
      );
      writeFileSync(output, "");
      await assert.rejects(convertModel(output, output), coldstartError("MODEL_NOT_FOUND", /is no folder/));
    });

    it("options that are none", async () => {
      const unknown = { typo: 1 } as ConvertOptions;
      await assert.rejects(convertModel(folder, output, unknown), coldstartError("INVALID_OPTION", /no option typo/));
      const type = { type: "Q4_K_M" } as unknown as ConvertOptions;
      await assert.rejects(convertModel(folder, output, type), coldstartError("INVALID_OPTION", /type is "Q4_K_M"/));
    });

    it("to write where it cannot", async () => {
      writeCheckpoint(family);
      const nowhere = path.join(folder, "missing", "model.gguf");
      await assert.rejects(convertModel(folder, nowhere), coldstartError("WRITE_FAILED", /cannot be written/));
    });
  });
});
