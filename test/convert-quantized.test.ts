// Checkpoints that are quantized: GPTQ, AWQ, floats of 8 bits with scales.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { convertModel, inspectGguf, loadModel, quantizeModel, type ConvertOptions } from "../lib/index.js";
import {
  f32,
  randomNumbers,
  valuesOf,
  writeJson,
  writeWeights,
  type RawTensor,
  type Tensors,
} from "./support/checkpoint.js";
import { FAMILIES, type TestFamily } from "./support/checkpoint-families.js";
import { coldstartError } from "./support/errors.js";
import { byteLevelTokenizer } from "./support/hf-tokenizers.js";
import { withModel } from "./support/models.js";
import {
  dequantized,
  fromHalf,
  packAwq,
  packGptq,
  randomQuantized,
  roundToHalf,
  type GroupQuantized,
} from "./support/packing.js";
import { referenceLogprobs, type ReferenceModel } from "./support/reference-model.js";
import { temporaryFolder } from "./support/temporary-folder.js";

const PROMPT = [7, 45, 300, 12, 12, 99, 256, 3, 81, 200, 5, 17];
const LINEAR = /(proj|w[123])\.weight$/;

interface Scheme {
  method: "gptq" | "awq";
  bits: number;
  groupSize: number;
  middle: boolean;
  shuffled: boolean;
  format?: "gptq" | "gptq_v2";
}

/** A llama whose matrices all formats can pack. */
function llama({ width = 64, feedForward = 96, layers = 1 } = {}): TestFamily {
  const random = randomNumbers(3);
  const [heads, keyValueHeads, headWidth] = [4, 2, width / 4];
  const tensors: Tensors = new Map();
  const matrix = (name: string, rows: number, columns: number) =>
    tensors.set(
      `${name}.weight`,
      f32([rows, columns], () => random() * Math.sqrt(3 / columns)),
    );
  const norm = (name: string) =>
    tensors.set(
      `${name}.weight`,
      f32([width], () => 1 + 0.3 * random()),
    );
  matrix("model.embed_tokens", 384, width);
  matrix("lm_head", 384, width);
  norm("model.norm");
  for (let i = 0; i < layers; i++) {
    const layer = `model.layers.${i}`;
    norm(`${layer}.input_layernorm`);
    norm(`${layer}.post_attention_layernorm`);
    matrix(`${layer}.self_attn.q_proj`, width, width);
    matrix(`${layer}.self_attn.k_proj`, keyValueHeads * headWidth, width);
    matrix(`${layer}.self_attn.v_proj`, keyValueHeads * headWidth, width);
    matrix(`${layer}.self_attn.o_proj`, width, width);
    matrix(`${layer}.mlp.gate_proj`, feedForward, width);
    matrix(`${layer}.mlp.up_proj`, feedForward, width);
    matrix(`${layer}.mlp.down_proj`, width, feedForward);
  }
  const config = {
    architectures: ["LlamaForCausalLM"], hidden_act: "silu", vocab_size: 384, hidden_size: width, intermediate_size: feedForward,
    num_hidden_layers: layers, num_attention_heads: heads, num_key_value_heads: keyValueHeads, max_position_embeddings: 256,
    rms_norm_eps: 1e-5, rope_theta: 10_000,
  }; // prettier-ignore
  const reference: ReferenceModel = {
    tensors, layers, heads, keyValueHeads, headWidth, epsilon: 1e-5, tied: false, activation: "silu",
    angle: (pair) => 10_000 ** ((-2 * pair) / headWidth),
  }; // prettier-ignore
  return { config, reference };
}

/** The family with its linear layers quantized: what the checkpoint has, and the weights that these stand for. */
function quantize(family: TestFamily, scheme: Scheme, seed = 1) {
  const random = randomNumbers(seed);
  const stored: Tensors = new Map();
  const plain: Tensors = new Map();
  const matrices = new Map<string, GroupQuantized>();
  for (const [name, tensor] of family.reference.tensors) {
    if (!LINEAR.test(name)) {
      stored.set(name, tensor);
      plain.set(name, tensor);
      continue;
    }
    const base = name.replace(/\.weight$/, "");
    const [outputs, inputs] = tensor.shape as [number, number];
    const groupSize = scheme.groupSize === -1 ? inputs : Math.min(scheme.groupSize, inputs);
    const matrix = randomQuantized(random, { ...scheme, outputs, inputs, groupSize });
    matrices.set(base, matrix);
    const isOrdered = scheme.method === "gptq" && (scheme.shuffled || scheme.bits !== 8);
    const parts =
      scheme.method === "awq" ? packAwq(base, matrix) : packGptq(base, matrix, scheme.format !== "gptq_v2", isOrdered);
    for (const [part, raw] of parts) stored.set(part, raw);
    plain.set(name, dequantized(matrix));
  }
  const { method, bits, groupSize, middle, shuffled, format } = scheme;
  const settings =
    method === "awq"
      ? {
          quant_method: "awq",
          bits,
          group_size: groupSize,
          zero_point: true,
          version: "gemm",
          modules_to_not_convert: null,
        }
      : {
          quant_method: "gptq",
          bits,
          group_size: groupSize,
          sym: middle,
          desc_act: shuffled,
          ...(format && { checkpoint_format: format }),
        };
  return {
    config: { ...family.config, quantization_config: settings } as Record<string, unknown>,
    stored,
    reference: { ...family.reference, tensors: plain },
    matrices,
  };
}

describe("convertModel() of quantized checkpoints", function () {
  this.timeout(120_000);
  const folder = temporaryFolder();

  function write(config: object, tensors: Tensors): string {
    mkdirSync(folder.path("model"), { recursive: true });
    writeJson(folder.path("model"), {
      "config.json": config,
      "tokenizer.json": byteLevelTokenizer({ pre: "qwen2", eos: "<|endoftext|>" }),
      "tokenizer_config.json": { eos_token: "<|endoftext|>", bos_token: null },
    });
    writeWeights(folder.path("model"), tensors, 2);
    return folder.path("model");
  }

  async function convert(config: object, tensors: Tensors, options: ConvertOptions = {}) {
    const result = await convertModel(write(config, tensors), folder.path("model.gguf"), options);
    const { tensors: infos, dataOffset } = await inspectGguf(folder.path("model.gguf"));
    const file = readFileSync(folder.path("model.gguf"));
    const find = (name: string) => {
      const info = infos.find((one) => one.name === name)!;
      assert.ok(info, name);
      return { ...info, data: file.subarray(dataOffset + info.offset, dataOffset + info.offset + info.bytes) };
    };
    return { result, find };
  }

  /** GGUF's llama has the rows of a head's two halves in turn. */
  const interleaved = (row: number, headWidth: number) => {
    const within = row % headWidth;
    return row - within + (within % 2 === 0 ? within / 2 : headWidth / 2 + (within - 1) / 2);
  };
  const NAMES = [
    ["attn_q", "self_attn.q_proj"], ["attn_k", "self_attn.k_proj"], ["attn_v", "self_attn.v_proj"], ["attn_output", "self_attn.o_proj"],
    ["ffn_gate", "mlp.gate_proj"], ["ffn_up", "mlp.up_proj"], ["ffn_down", "mlp.down_proj"],
  ] as const; // prettier-ignore

  const schemes = fc.record<Scheme>({
    method: fc.constant("gptq"),
    bits: fc.constantFrom(2, 3, 4, 8),
    groupSize: fc.constantFrom(-1, 16, 24, 32, 64, 128),
    middle: fc.boolean(),
    shuffled: fc.boolean(),
    format: fc.constantFrom("gptq", "gptq_v2"),
  });

  it("gives GPTQ's weights, whatever the bits, groups, zeros and order", async () => {
    const family = llama();
    await fc.assert(
      fc.asyncProperty(schemes, fc.nat(), async (scheme, seed) => {
        const { config, stored, reference } = quantize(family, scheme, seed);
        const { result, find } = await convert(config, stored, { type: "F32" });
        assert.equal(result.type, "F32");
        for (const [name, from] of NAMES) {
          const { shape, data } = find(`blk.0.${name}.weight`);
          const expected = valuesOf(reference.tensors.get(`model.layers.0.${from}.weight`)!);
          const [columns = 0, rows = 0] = shape;
          const headWidth = name === "attn_q" || name === "attn_k" ? 16 : 0;
          for (let row = 0; row < rows; row++) {
            const place = headWidth > 0 ? interleaved(row, headWidth) : row;
            for (let i = 0; i < columns; i++)
              assert.equal(
                data.readFloatLE(4 * (row * columns + i)),
                expected[place * columns + i],
                `${name} ${row} ${i}`,
              );
          }
        }
      }),
      { numRuns: 40 },
    );
  });

  it("keeps numbers of up to 4 bits, and of 8 with zeros in the middle, in blocks of GGUF", async () => {
    const family = llama();
    for (const bits of [2, 3, 4, 8]) {
      for (const middle of [true, false]) {
        for (const method of bits === 4 && !middle ? (["gptq", "awq"] as const) : (["gptq"] as const)) {
          const scheme = { method, bits, groupSize: 32, middle, shuffled: false };
          const { config, stored, matrices } = quantize(family, scheme);
          const { result, find } = await convert(config, stored);
          const type = bits === 8 ? (middle ? "q8_0" : "f16") : middle ? "q4_0" : "q4_1";
          assert.match(
            result.notes.join(),
            type === "f16" ? /^7 matrices become F16: 8 bits/ : new RegExp(`^7 matrices keep .* ${type}`, "i"),
          );
          for (const [name, from] of NAMES) {
            const { type: actual, shape, data } = find(`blk.0.${name}.weight`);
            assert.equal(actual, type);
            if (type === "f16") continue;
            const matrix = matrices.get(`model.layers.0.${from}`)!;
            const [columns = 0, rows = 0] = shape;
            let at = 0;
            for (let row = 0; row < rows; row++) {
              const output = name === "attn_q" || name === "attn_k" ? interleaved(row, 16) : row;
              for (let first = 0; first < columns; first += 32) {
                const group = matrix.groups[first]!;
                const scale = matrix.scales[group]![output]!;
                const code = (i: number) => matrix.codes[first + i]![output]!;
                assert.equal(data.readUInt16LE(at), scale);
                at += 2;
                if (type === "q4_1") {
                  const least = -fromHalf(scale) * matrix.zeros[group]![output]!;
                  assert.equal(fromHalf(data.readUInt16LE(at)) + 0, roundToHalf(least) + 0);
                  at += 2;
                }
                for (let i = 0; i < (type === "q8_0" ? 32 : 16); i++, at++) {
                  if (type === "q8_0") {
                    assert.equal(data.readInt8(at), code(i) - 128);
                    continue;
                  }
                  const up: number = type === "q4_0" ? 8 - 2 ** (bits - 1) : 0;
                  assert.equal(data[at]! & 15, code(i) + up);
                  assert.equal(data[at]! >> 4, code(i + 16) + up);
                }
              }
            }
          }
        }
      }
    }
  });

  it("gives AWQ's weights", async () => {
    const { config, stored, reference } = quantize(llama(), {
      method: "awq",
      bits: 4,
      groupSize: 32,
      middle: false,
      shuffled: false,
    });
    const { find } = await convert(config, stored, { type: "F32" });
    const expected = valuesOf(reference.tensors.get("model.layers.0.mlp.down_proj.weight")!);
    const { data } = find("blk.0.ffn_down.weight");
    expected.forEach((value, i) => assert.equal(data.readFloatLE(4 * i), value));
  });

  it("says why it has to round again", async () => {
    const family = llama();
    const notes = async (scheme: Partial<Scheme>) => {
      const { config, stored } = quantize(family, {
        method: "gptq",
        bits: 4,
        groupSize: 32,
        middle: true,
        shuffled: false,
        ...scheme,
      });
      return (await convert(config, stored)).result.notes;
    };
    assert.deepEqual(await notes({ shuffled: true }), [
      "7 matrices become F16: the order of activations mixes their groups.",
    ]);
    assert.deepEqual(await notes({ groupSize: 16 }), [
      "7 matrices become F16: their groups of 16 are not multiples of 32.",
    ]);
    assert.deepEqual(await notes({}), ["7 matrices keep their numbers, as Q4_0."]);
    const { config, stored } = quantize(family, {
      method: "gptq",
      bits: 4,
      groupSize: 16,
      middle: true,
      shuffled: false,
    });
    const model = await loadModel(write(config, stored), { threads: 1 });
    assert.match(model.placement.notes.join(), /7 matrices become F16/);
    await model.dispose();
  });

  for (const [name, scheme] of Object.entries({
    "GPTQ with zeros in the middle": { method: "gptq", bits: 4, groupSize: 32, middle: true, shuffled: false },
    "GPTQ with zeros and an order": { method: "gptq", bits: 4, groupSize: 32, middle: false, shuffled: true },
    "GPTQ of 3 bits": { method: "gptq", bits: 3, groupSize: 64, middle: false, shuffled: false },
    "GPTQ of 8 bits": { method: "gptq", bits: 8, groupSize: -1, middle: true, shuffled: false },
    AWQ: { method: "awq", bits: 4, groupSize: 64, middle: false, shuffled: false },
  } satisfies Record<string, Scheme>)) {
    it(`computes what the weights say: ${name}`, async () => {
      const { config, stored, reference } = quantize(llama({ layers: 2 }), scheme);
      const load = { kvCache: { keyType: "f32", valueType: "f32" }, flashAttention: false } as const;
      const compare = async (path: string, tolerance: number) => {
        await withModel({ path, ...load }, async (model) => {
          const result = await model.generate(PROMPT, { temperature: 0, maxTokens: 6, logprobs: 20 }).result;
          const expected = referenceLogprobs(reference, [...PROMPT, ...result.tokens]);
          result.logprobs!.forEach(({ top }, i) => {
            for (const { token, logprob } of top) {
              const apart = Math.abs(logprob - expected[PROMPT.length - 1 + i]![token]!);
              assert.ok(apart < tolerance, `token ${token} at ${i}: ${apart}`);
            }
          });
        });
      };
      const checkpoint = write(config, stored);
      await convertModel(checkpoint, folder.path("f32.gguf"), { type: "F32" });
      await compare(folder.path("f32.gguf"), 2e-3);
      // With blocks of few bits, what they are multiplied with is rounded to 8 bits.
      await compare(checkpoint, 0.2);
    });
  }

  it("takes biases, also empty ones that no layer has, shared embeddings, and experts", async () => {
    const scheme: Scheme = { method: "gptq", bits: 4, groupSize: 16, middle: true, shuffled: false };
    for (const name of ["qwen2", "qwen3moe", "mixtral"]) {
      const family = FAMILIES[name]!();
      const { config, stored, reference } = quantize(family, scheme);
      const checkpoint = write(config, stored);
      await convertModel(checkpoint, folder.path("f32.gguf"), { type: "F32" });
      await withModel(
        { path: folder.path("f32.gguf"), kvCache: { keyType: "f32", valueType: "f32" }, flashAttention: false },
        async (model) => {
          const { logprobs } = await model.generate(PROMPT, { temperature: 0, maxTokens: 1, logprobs: 10 }).result;
          const expected = referenceLogprobs(reference, PROMPT).at(-1)!;
          for (const { token, logprob } of logprobs![0]!.top)
            assert.ok(Math.abs(logprob - expected[token]!) < 3e-3, name);
        },
      );
    }
    const { config, stored } = quantize(llama(), scheme);
    stored.set(
      "model.layers.0.self_attn.q_proj.bias",
      f32([64], () => 0),
    );
    await convert(config, stored);
    stored.set(
      "model.layers.0.self_attn.q_proj.bias",
      f32([64], (i) => (i === 9 ? 1 : 0)),
    );
    await assert.rejects(convert(config, stored), coldstartError("UNSUPPORTED_MODEL", /q_proj\.bias is not known/));
  });

  it("loads folders as they are, and quantizes again only when told to", async () => {
    const { config, stored } = quantize(llama({ width: 256, feedForward: 512 }), {
      method: "gptq",
      bits: 4,
      groupSize: 128,
      middle: true,
      shuffled: false,
    });
    const checkpoint = write(config, stored);
    const result = await convertModel(checkpoint, folder.path("model.gguf"));
    assert.equal((await inspectGguf(folder.path("model.gguf"))).quantization, "Q4_0");
    assert.equal(result.architecture, "llama");
    const tokens = (path: string) =>
      withModel(
        { path, loadMode: "copy" },
        async (model) => (await model.generate(PROMPT, { temperature: 0, maxTokens: 8 }).result).tokens,
      );
    assert.deepEqual(await tokens(checkpoint), await tokens(folder.path("model.gguf")));
    const again = { type: "Q4_K_M", allowRequantize: true } as const;
    await assert.rejects(
      quantizeModel(checkpoint, folder.path("x.gguf"), { type: "Q4_K_M" }),
      coldstartError("INVALID_OPTION", /quantized already/),
    );
    await quantizeModel(checkpoint, folder.path("a.gguf"), again);
    await quantizeModel(folder.path("model.gguf"), folder.path("b.gguf"), again);
    assert.ok(readFileSync(folder.path("a.gguf")).equals(readFileSync(folder.path("b.gguf"))));
  });

  it("gives floats of 8 bits their scales: of blocks, rows and tensors", async () => {
    const random = randomNumbers(5);
    // Exact ones: 1.xxx times a power of two.
    const byte = () => Math.floor(((random() + 1) / 2) * 0x78) | (random() < 0 ? 0x80 : 0);
    const value = (bits: number) => {
      const [exponent, fraction] = [(bits >> 3) & 15, bits & 7];
      const size = exponent === 0 ? fraction * 2 ** -9 : (8 + fraction) * 2 ** (exponent - 10);
      return bits & 0x80 ? -size : size;
    };
    for (const kind of ["block", "row", "tensor"] as const) {
      const family = llama();
      const stored: Tensors = new Map();
      const plain: Tensors = new Map();
      for (const [name, tensor] of family.reference.tensors) {
        plain.set(name, tensor);
        stored.set(name, tensor);
        if (!LINEAR.test(name)) continue;
        const [rows, columns] = tensor.shape as [number, number];
        const data = Uint8Array.from({ length: rows * columns }, byte);
        stored.set(name, { type: "F8_E4M3", shape: [rows, columns], data } satisfies RawTensor);
        const [height, width] = kind === "block" ? [24, 40] : kind === "row" ? [1, columns] : [rows, columns];
        const shape = kind === "tensor" ? [] : [Math.ceil(rows / height), Math.ceil(columns / width)];
        const scales = f32(shape, () => 2 ** Math.round(3 * random() - 8));
        stored.set(`${name}_scale${kind === "block" ? "_inv" : ""}`, scales);
        stored.set(
          name.replace("weight", "input_scale"),
          f32([1], () => 1),
        );
        const blocks = Math.ceil(columns / width);
        const factor = (i: number) =>
          valuesOf(scales)[Math.floor(Math.floor(i / columns) / height) * blocks + Math.floor((i % columns) / width)]!;
        plain.set(
          name,
          f32([rows, columns], (i) => value(data[i]!) * factor(i)),
        );
      }
      const settings =
        kind === "block"
          ? { quant_method: "fp8", weight_block_size: [24, 40], activation_scheme: "dynamic" }
          : {
              quant_method: "compressed-tensors",
              format: "float-quantized",
              config_groups: { group_0: { weights: { num_bits: 8, type: "float" } } },
            };
      const { result, find } = await convert({ ...family.config, quantization_config: settings }, stored, {
        type: "F32",
      });
      assert.match(result.notes.join(), /^7 matrices of 8 bits with scales become F32/);
      const { data } = find("blk.0.ffn_down.weight");
      valuesOf(plain.get("model.layers.0.mlp.down_proj.weight")!).forEach((expected, i) =>
        assert.ok(data.readFloatLE(4 * i) === expected, kind),
      );
    }
  });

  it("refuses what is damaged or not known", async () => {
    const scheme: Scheme = { method: "gptq", bits: 4, groupSize: 32, middle: true, shuffled: true };
    const refuses = async (
      code: "INVALID_CHECKPOINT" | "UNSUPPORTED_MODEL",
      message: RegExp,
      damage: (stored: Tensors, settings: Record<string, unknown>) => void,
      change: Partial<Scheme> = {},
    ) => {
      const { config, stored } = quantize(llama(), { ...scheme, ...change });
      damage(stored, config["quantization_config"] as Record<string, unknown>);
      await assert.rejects(convert(config, stored), coldstartError(code, message));
    };
    const q = "model.layers.0.self_attn.q_proj";
    const setting = (name: string, value: unknown) => (_: Tensors, settings: Record<string, unknown>) =>
      void (settings[name] = value);
    await refuses("UNSUPPORTED_MODEL", /method "bitsandbytes"/, setting("quant_method", "bitsandbytes"));
    await refuses("UNSUPPORTED_MODEL", /checkpoint_format marlin/, setting("checkpoint_format", "marlin"));
    await refuses("UNSUPPORTED_MODEL", /bits 5; known: 2, 3, 4, 8/, setting("bits", 5));
    await refuses("UNSUPPORTED_MODEL", /dynamic \+:.*q_proj/, setting("dynamic", { "+:.*q_proj": { bits: 8 } }));
    await refuses("UNSUPPORTED_MODEL", /awq with version gemv/, setting("version", "gemv"), {
      method: "awq",
      middle: false,
      shuffled: false,
    });
    await refuses("INVALID_CHECKPOINT", /group_size/, setting("group_size", 0));
    await refuses("INVALID_CHECKPOINT", new RegExp(`no tensor ${q}.scales`), (stored) => stored.delete(`${q}.scales`));
    await refuses("INVALID_CHECKPOINT", /no tensor .*q_proj.weight/, (stored) => stored.delete(`${q}.qweight`));
    await refuses(
      "INVALID_CHECKPOINT",
      /qweight has the shape \[8, 64\], and config.json asks for \[16, 64\]/,
      setting("bits", 8),
    );
    await refuses("UNSUPPORTED_MODEL", /scales has the type I64/, (stored) =>
      stored.set(`${q}.scales`, { type: "I64", shape: [2, 64], data: new Uint8Array(1024) }),
    );
    await refuses("INVALID_CHECKPOINT", /Input 5 of .*g_idx is of the group 2, and there are 2/, (stored) => {
      new Int32Array(stored.get(`${q}.g_idx`)!.data.buffer)[5] = 2;
    });
    await refuses("INVALID_CHECKPOINT", /A scale of .*q_proj.scales is NaN or infinite/, (stored) => {
      new Uint16Array(stored.get(`${q}.scales`)!.data.buffer)[7] = 0x7e00;
    });
    await refuses(
      "INVALID_CHECKPOINT",
      /q_proj is said to be symmetric, and a zero is/,
      (stored) => {
        new Uint32Array(stored.get(`${q}.qzeros`)!.data.buffer)[3]! ^= 0x10;
      },
      { shuffled: false },
    );
  });
});
