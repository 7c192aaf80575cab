// Models of random weights, for tests and benches: real shapes, so that speed is real and text is noise.

import { tensorBytes, writeGguf, type GgufEntry, type GgufTensor } from "./gguf-writer.js";

export const F32 = 0;
export const F16 = 1;
export const Q4_0 = 2;
export const Q8_0 = 8;
export const BF16 = 30;

export interface Shape {
  /** Of the matrices; norms are F32. */
  type: typeof F32 | typeof F16 | typeof BF16 | typeof Q4_0 | typeof Q8_0;
  vocabulary: number;
  width: number;
  feedForward: number;
  layers: number;
  heads: number;
  keyValueHeads: number;
  contextLength: number;
  /** Output and embedding share their weights. */
  tied: boolean;
  /** Mixture of experts: how many there are, and how many a token goes through. */
  experts?: { count: number; used: number };
}

/** llama.h: enum llama_ftype */
const FILE_TYPES: Readonly<Record<Shape["type"], number>> = { [F32]: 0, [F16]: 1, [Q4_0]: 2, [Q8_0]: 7, [BF16]: 32 };

/** A few megabytes in 4 bits: enough to see memory move. */
export const LARGE: Shape = {
  type: Q4_0,
  vocabulary: 2048,
  width: 512,
  feedForward: 1536,
  layers: 6,
  heads: 8,
  keyValueHeads: 4,
  contextLength: 32_768,
  tied: false,
};

/** A llama model of this shape with a SentencePiece vocabulary. */
export function randomModel(shape: Shape): Buffer {
  const { type, vocabulary, width, feedForward, layers, heads, keyValueHeads, contextLength, tied, experts } = shape;
  const random = randomNumbers(42);
  const matrix = (name: string, columns: number, rows: number): GgufTensor => ({
    name,
    type,
    shape: [columns, rows],
    data: randomMatrix(type, columns, rows, random),
  });
  const norm = (name: string): GgufTensor => ({
    name,
    type: F32,
    shape: [width],
    data: new Uint8Array(new Float32Array(width).fill(1).buffer),
  });
  const keyValueWidth = (width / heads) * keyValueHeads;
  const tensors = [matrix("token_embd.weight", width, vocabulary), norm("output_norm.weight")];
  if (!tied) tensors.push(matrix("output.weight", width, vocabulary));
  for (let i = 0; i < layers; i++) {
    tensors.push(
      norm(`blk.${i}.attn_norm.weight`),
      matrix(`blk.${i}.attn_q.weight`, width, width),
      matrix(`blk.${i}.attn_k.weight`, width, keyValueWidth),
      matrix(`blk.${i}.attn_v.weight`, width, keyValueWidth),
      matrix(`blk.${i}.attn_output.weight`, width, width),
      norm(`blk.${i}.ffn_norm.weight`),
    );
    if (experts) tensors.push(matrix(`blk.${i}.ffn_gate_inp.weight`, width, experts.count));
    for (const [part, columns, rows] of [
      ["gate", width, feedForward],
      ["up", width, feedForward],
      ["down", feedForward, width],
    ] as const) {
      if (!experts) {
        tensors.push(matrix(`blk.${i}.ffn_${part}.weight`, columns, rows));
        continue;
      }
      const all = matrix(`blk.${i}.ffn_${part}_exps.weight`, columns, rows * experts.count);
      tensors.push({ ...all, shape: [columns, rows, experts.count] });
    }
  }
  const number = (key: string, value: number): GgufEntry => ({ key: `llama.${key}`, type: "uint32", value });
  const metadata: GgufEntry[] = [
    { key: "general.architecture", type: "string", value: "llama" },
    { key: "general.file_type", type: "uint32", value: FILE_TYPES[type] },
    number("context_length", contextLength),
    number("embedding_length", width),
    number("block_count", layers),
    number("feed_forward_length", feedForward),
    number("attention.head_count", heads),
    number("attention.head_count_kv", keyValueHeads),
    ...(experts ? [number("expert_count", experts.count), number("expert_used_count", experts.used)] : []),
    { key: "llama.attention.layer_norm_rms_epsilon", type: "float32", value: 1e-5 },
    ...vocabularyMetadata(vocabulary),
  ];
  return writeGguf({ metadata, tensors });
}

/** A LoRA adapter of random weights for queries and values of a model of this shape. */
export function randomAdapter({ width, layers, heads, keyValueHeads }: Shape, seed: number, rank = 16): Buffer {
  const random = randomNumbers(seed);
  const pair = (name: string, columns: number, rows: number): GgufTensor[] => [
    { name: `${name}.lora_a`, type: F32, shape: [columns, rank], data: randomMatrix(F32, columns, rank, random) },
    { name: `${name}.lora_b`, type: F32, shape: [rank, rows], data: randomMatrix(F32, rank, rows, random) },
  ];
  const tensors = Array.from({ length: layers }, (_, i) => [
    ...pair(`blk.${i}.attn_q.weight`, width, width),
    ...pair(`blk.${i}.attn_v.weight`, width, (width / heads) * keyValueHeads),
  ]).flat();
  const metadata: GgufEntry[] = [
    { key: "general.type", type: "string", value: "adapter" },
    { key: "general.architecture", type: "string", value: "llama" },
    { key: "adapter.type", type: "string", value: "lora" },
    { key: "adapter.lora.alpha", type: "float32", value: rank },
  ];
  return writeGguf({ metadata, tensors });
}

/** Control tokens, the 256 bytes, then words of letters. */
export function vocabularyMetadata(size: number): GgufEntry[] {
  const tokens = ["<unk>", "<s>", "</s>"];
  const types = [2, 3, 3];
  for (let byte = 0; byte < 256; byte++) {
    tokens.push(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
    types.push(6);
  }
  for (let i = 0; tokens.length < size; i++) {
    tokens.push(i < 26 ? String.fromCharCode(97 + i) : `▁${i.toString(36)}`);
    types.push(1);
  }
  return [
    { key: "tokenizer.ggml.model", type: "string", value: "llama" },
    { key: "tokenizer.ggml.tokens", type: "array", elementType: "string", values: tokens },
    { key: "tokenizer.ggml.scores", type: "array", elementType: "float32", values: tokens.map((_, i) => -i) },
    { key: "tokenizer.ggml.token_type", type: "array", elementType: "int32", values: types },
    { key: "tokenizer.ggml.bos_token_id", type: "uint32", value: 1 },
    { key: "tokenizer.ggml.eos_token_id", type: "uint32", value: 2 },
  ];
}

/** Elements about uniform, of a size that keeps activations near 1. */
export function randomMatrix(type: Shape["type"], columns: number, rows: number, random: () => number): Uint8Array {
  const data = new Uint8Array(tensorBytes({ type, shape: [columns, rows] }));
  const view = new DataView(data.buffer);
  const scale = Math.sqrt(3 / columns);
  if (type === F32) {
    for (let i = 0; i < columns * rows; i++) view.setFloat32(4 * i, (2 * random() - 1) * scale, true);
    return data;
  }
  if (type === Q8_0) {
    // A block: the scale as F16, then 32 signed bytes.
    for (let at = 0; at < data.length; at += 34) {
      view.setUint16(at, halfFloat(scale / 128), true);
      for (let k = 2; k < 34; k++) data[at + k] = random() * 256;
    }
    return data;
  }
  if (type !== Q4_0) {
    const bits = type === F16 ? halfFloat : brainFloat;
    for (let i = 0; i < columns * rows; i++) view.setUint16(2 * i, bits((2 * random() - 1) * scale), true);
    return data;
  }
  // A block of Q4_0: the scale as F16, then 32 nibbles; an element is scale * (nibble - 8).
  for (let at = 0; at < data.length; at += 18) {
    view.setUint16(at, halfFloat(scale / 8), true);
    for (let k = 2; k < 18; k++) data[at + k] = random() * 256;
  }
  return data;
}

/** The bits of an F16; numbers too small for a normal one become 0. */
function halfFloat(value: number): number {
  const bits = bitsOf(value);
  const exponent = ((bits >>> 23) & 0xff) - 127 + 15;
  if (exponent <= 0) return 0;
  return ((bits >>> 16) & 0x8000) | (exponent << 10) | ((bits >>> 13) & 0x3ff);
}

/** The bits of a BF16: the upper half of an F32. */
function brainFloat(value: number): number {
  return bitsOf(value) >>> 16;
}

const asFloat = new Float32Array(1);
const asBits = new Uint32Array(asFloat.buffer);
/** Of an F32. */
function bitsOf(value: number): number {
  asFloat[0] = value;
  return asBits[0] ?? 0;
}

/** Marsaglia's xorshift32: the same weights everywhere. Numbers from 0 to 1. */
export function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** Small models of other architectures, whose memory is not a plain KV cache: a state space model, and sliding windows. */
export function randomModelOf(architecture: "mamba" | "gemma2"): Buffer {
  const [vocabulary, width, layers] = [512, 64, 4];
  const random = randomNumbers(7);
  const tensor = (name: string, shape: number[], of: () => number): GgufTensor => ({
    name,
    type: F32,
    shape,
    data: new Uint8Array(Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, of).buffer),
  });
  const matrix = (name: string, columns: number, rows: number) =>
    tensor(name, [columns, rows], () => (2 * random() - 1) * Math.sqrt(3 / columns));
  const vector = (name: string, length: number, value: number) => tensor(name, [length], () => value);
  const number = (key: string, value: number): GgufEntry => ({
    key: `${architecture}.${key}`,
    type: "uint32",
    value,
  });

  const tensors = [matrix("token_embd.weight", width, vocabulary), vector("output_norm.weight", width, 1)];
  const metadata: GgufEntry[] = [
    { key: "general.architecture", type: "string", value: architecture },
    number("context_length", 512),
    number("embedding_length", width),
    number("block_count", layers),
    { key: `${architecture}.attention.layer_norm_rms_epsilon`, type: "float32", value: 1e-5 },
    ...vocabularyMetadata(vocabulary),
  ];
  if (architecture === "mamba") {
    const [conv, inner, state, rank] = [4, 2 * width, 8, 4];
    metadata.push(
      number("ssm.conv_kernel", conv),
      number("ssm.inner_size", inner),
      number("ssm.state_size", state),
      number("ssm.time_step_rank", rank),
      number("attention.head_count", 0),
      number("feed_forward_length", 0),
    );
    for (let i = 0; i < layers; i++) {
      tensors.push(
        vector(`blk.${i}.attn_norm.weight`, width, 1),
        matrix(`blk.${i}.ssm_in.weight`, width, 2 * inner),
        matrix(`blk.${i}.ssm_conv1d.weight`, conv, inner),
        vector(`blk.${i}.ssm_conv1d.bias`, inner, 0),
        matrix(`blk.${i}.ssm_x.weight`, inner, rank + 2 * state),
        matrix(`blk.${i}.ssm_dt.weight`, rank, inner),
        vector(`blk.${i}.ssm_dt.bias`, inner, -1),
        tensor(`blk.${i}.ssm_a`, [state, inner], () => -random() - 0.1),
        vector(`blk.${i}.ssm_d`, inner, 1),
        matrix(`blk.${i}.ssm_out.weight`, inner, width),
      );
    }
  } else {
    const [feedForward, heads] = [128, 4];
    metadata.push(
      number("attention.head_count", heads),
      number("attention.head_count_kv", heads),
      number("attention.key_length", width / heads),
      number("attention.value_length", width / heads),
      number("feed_forward_length", feedForward),
      number("attention.sliding_window", 32),
    );
    for (let i = 0; i < layers; i++) {
      for (const part of ["attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"])
        tensors.push(vector(`blk.${i}.${part}.weight`, width, 1));
      for (const part of ["attn_q", "attn_k", "attn_v", "attn_output"])
        tensors.push(matrix(`blk.${i}.${part}.weight`, width, width));
      tensors.push(
        matrix(`blk.${i}.ffn_gate.weight`, width, feedForward),
        matrix(`blk.${i}.ffn_up.weight`, width, feedForward),
        matrix(`blk.${i}.ffn_down.weight`, feedForward, width),
      );
    }
  }
  return writeGguf({ metadata, tensors });
}

export type MtpArchitecture = "glm4moe" | "qwen35";

/**
 * Small models with one head for multi-token prediction: glm4moe has a plain KV cache, qwen35 is recurrent in every other layer.
 *
 * With `heads: "right"`, tokens go around in circles of 64: the embedding of the next one is that of the last one, rotated by
 * one place, and a bit of noise from the layers between. The head rotates the hidden state before the last token by
 * one: it is right as long as the text follows the circle, and only if it gets the hidden state that belongs there.
 */
export function randomMtpModel(architecture: MtpArchitecture, heads: "random" | "right"): Buffer {
  const [vocabulary, width, feedForward, attentionHeads, experts] = [512, 64, 128, 4, 2];
  const layers = architecture === "qwen35" ? 4 : 2;
  const headWidth = width / attentionHeads;
  const random = randomNumbers(11);
  const right = heads === "right";
  const tensors: GgufTensor[] = [];
  const tensor = (name: string, shape: number[], of: (at: number) => number): void => {
    const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, at) => of(at));
    tensors.push({ name, type: F32, shape, data: new Uint8Array(data.buffer) });
  };
  const matrix = (name: string, columns: number, rows: number, scale = 1) =>
    tensor(name, [columns, rows], () => scale * (2 * random() - 1) * Math.sqrt(3 / columns));
  const vector = (name: string, length: number, value: number) => tensor(name, [length], () => value);

  // Token t is at place t % width of its circle.
  const circles = Array.from({ length: vocabulary }, () => (random() < 0.5 ? -1 : 1));
  const embedding = (token: number, at: number): number => {
    const start = token - (token % width);
    return circles[start + ((at + token) % width)]!;
  };
  const before = (token: number): number => token - (token % width) + ((token + width - 1) % width);
  if (right) {
    tensor("token_embd.weight", [width, vocabulary], (i) => embedding(Math.floor(i / width), i % width));
    tensor("output.weight", [width, vocabulary], (i) => 0.12 * embedding(before(Math.floor(i / width)), i % width));
  } else {
    matrix("token_embd.weight", width, vocabulary);
    matrix("output.weight", width, vocabulary);
  }
  vector("output_norm.weight", width, 1);

  for (let i = 0; i <= layers; i++) {
    const isHead = i === layers;
    // Of what a layer adds.
    const scale = !right ? 1 : isHead ? 0 : 0.2;
    const block = `blk.${i}`;
    vector(`${block}.attn_norm.weight`, width, 1);
    vector(`${block}.post_attention_norm.weight`, width, 1);
    if (architecture === "qwen35" && !isHead && i % 2 === 0) {
      matrix(`${block}.attn_qkv.weight`, width, 3 * width);
      matrix(`${block}.attn_gate.weight`, width, width);
      matrix(`${block}.ssm_conv1d.weight`, 4, 3 * width);
      vector(`${block}.ssm_dt.bias`, attentionHeads, 1);
      tensor(`${block}.ssm_a`, [attentionHeads], () => -random() - 0.1);
      matrix(`${block}.ssm_beta.weight`, width, attentionHeads);
      matrix(`${block}.ssm_alpha.weight`, width, attentionHeads);
      vector(`${block}.ssm_norm.weight`, headWidth, 1);
      matrix(`${block}.ssm_out.weight`, width, width, scale);
    } else {
      // qwen35 has a gate beside each query.
      matrix(`${block}.attn_q.weight`, width, architecture === "qwen35" ? 2 * width : width);
      matrix(`${block}.attn_k.weight`, width, width);
      matrix(`${block}.attn_v.weight`, width, width);
      matrix(`${block}.attn_output.weight`, width, width, scale);
      if (architecture === "qwen35") {
        vector(`${block}.attn_q_norm.weight`, headWidth, 1);
        vector(`${block}.attn_k_norm.weight`, headWidth, 1);
      }
    }
    if (architecture === "qwen35") {
      matrix(`${block}.ffn_gate.weight`, width, feedForward);
      matrix(`${block}.ffn_up.weight`, width, feedForward);
      matrix(`${block}.ffn_down.weight`, feedForward, width, scale);
    } else {
      const expert = (name: string, columns: number, rows: number, of = 1) =>
        tensor(name, [columns, rows, experts], () => of * (2 * random() - 1) * Math.sqrt(3 / columns));
      matrix(`${block}.ffn_gate_inp.weight`, width, experts);
      vector(`${block}.exp_probs_b.bias`, experts, 0);
      expert(`${block}.ffn_gate_exps.weight`, width, feedForward);
      expert(`${block}.ffn_up_exps.weight`, width, feedForward);
      expert(`${block}.ffn_down_exps.weight`, feedForward, width, scale);
      matrix(`${block}.ffn_gate_shexp.weight`, width, feedForward);
      matrix(`${block}.ffn_up_shexp.weight`, width, feedForward);
      matrix(`${block}.ffn_down_shexp.weight`, feedForward, width, scale);
    }
    if (!isHead) continue;
    if (right) {
      tensor(`${block}.nextn.eh_proj.weight`, [2 * width, width], (at) => {
        const [row, column] = [Math.floor(at / (2 * width)), at % (2 * width)];
        return column === width + ((row + 1) % width) ? 1 : 0;
      });
    } else {
      matrix(`${block}.nextn.eh_proj.weight`, 2 * width, width);
    }
    for (const norm of ["enorm", "hnorm", "shared_head_norm"]) vector(`${block}.nextn.${norm}.weight`, width, 1);
  }

  const number = (key: string, value: number): GgufEntry => ({
    key: `${architecture}.${key}`,
    type: "uint32",
    value,
  });
  const metadata: GgufEntry[] = [
    { key: "general.architecture", type: "string", value: architecture },
    number("context_length", 512),
    number("embedding_length", width),
    number("block_count", layers + 1),
    number("nextn_predict_layers", 1),
    number("feed_forward_length", feedForward),
    number("attention.head_count", attentionHeads),
    number("attention.head_count_kv", attentionHeads),
    { key: `${architecture}.attention.layer_norm_rms_epsilon`, type: "float32", value: 1e-5 },
    ...vocabularyMetadata(vocabulary),
  ];
  if (architecture === "qwen35") {
    metadata.push(
      {
        key: "qwen35.rope.dimension_sections",
        type: "array",
        elementType: "int32",
        values: [3, 3, 2, 0],
      },
      number("full_attention_interval", 2),
      number("ssm.conv_kernel", 4),
      number("ssm.inner_size", width),
      number("ssm.state_size", headWidth),
      number("ssm.time_step_rank", attentionHeads),
      number("ssm.group_count", attentionHeads),
    );
  } else {
    metadata.push(
      number("expert_count", experts),
      number("expert_used_count", 1),
      number("expert_shared_count", 1),
      number("expert_feed_forward_length", feedForward),
      number("leading_dense_block_count", 0),
    );
  }
  return writeGguf({ metadata, tensors });
}
