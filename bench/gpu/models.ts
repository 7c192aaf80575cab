// Makes the models of the GPU bench: random weights in the shapes of real models, so that speed is real and text is noise.
// They are large, and written at the speed of the disk: each tensor is cut from one block of noise in its type.
//
//   npx tsx bench/gpu/models.ts FOLDER NAME …        NAME: llama-1b-f16, llama-8b-q4_k_m, qwen-30b-a3b-q4_k_m, …

import { closeSync, existsSync, mkdirSync, openSync, renameSync, writeSync } from "node:fs";
import { randomFillSync } from "node:crypto";
import path from "node:path";
import { tensorBytes, writeGguf, type GgufEntry, type GgufTensor } from "../../test/support/gguf-writer.js";
import { vocabularyMetadata } from "../../test/support/random-model.js";

interface Shape {
  architecture: "llama" | "qwen3moe";
  vocabulary: number;
  width: number;
  feedForward: number;
  layers: number;
  heads: number;
  keyValueHeads: number;
  headSize: number;
  /** Output and embedding share their weights. */
  tied: boolean;
  experts?: { count: number; used: number };
}

/** Of the models' published config.json. */
const SHAPES: Record<string, Shape> = {
  "llama-1b": { architecture: "llama", vocabulary: 128_256, width: 2048, feedForward: 8192, layers: 16, heads: 32, keyValueHeads: 8, headSize: 64, tied: true },
  "llama-8b": { architecture: "llama", vocabulary: 128_256, width: 4096, feedForward: 14_336, layers: 32, heads: 32, keyValueHeads: 8, headSize: 128, tied: false },
  "qwen-30b-a3b": { architecture: "qwen3moe", vocabulary: 151_936, width: 2048, feedForward: 768, layers: 48, heads: 32, keyValueHeads: 4, headSize: 128, tied: false, experts: { count: 128, used: 8 } },
}; // prettier-ignore

const F32 = 0;
const F16 = 1;
const Q8_0 = 8;
const Q4_K = 12;
const Q6_K = 14;
/** llama.h: enum llama_ftype */
const FILE_TYPES: Record<string, number> = { f16: 1, q8_0: 7, q4_k_m: 15 };

/** The types that llama-quantize gives the tensors of such a model. */
function typeOf(recipe: string, tensor: string, layer: number, layers: number): number {
  if (recipe === "f16") return F16;
  if (recipe === "q8_0") return Q8_0;
  const eighth = Math.floor(layers / 8);
  const more = layer < eighth || layer >= 7 * eighth || (layer - eighth) % 3 === 2;
  if (tensor === "output") return Q6_K;
  return more && (tensor === "attn_v" || tensor.startsWith("ffn_down")) ? Q6_K : Q4_K;
}

const POOL = 64 * 2 ** 20;
const pools = new Map<number, Buffer>();

/** Noise whose elements have about the size 1/64, as blocks of a type. */
function pool(type: number): Buffer {
  let bytes = pools.get(type);
  if (bytes !== undefined) return bytes;
  const block = tensorBytes({ type, shape: [256] });
  bytes = Buffer.alloc(Math.floor(POOL / block) * block);
  randomFillSync(bytes);
  const size = 1 / 64;
  for (let at = 0; at < bytes.length; at += block) {
    if (type === F16) {
      for (let i = at; i < at + block; i += 2) bytes.writeUInt16LE((bytes.readUInt16LE(i) & 0x83ff) | 0x2000, i);
    } else if (type === Q8_0) {
      for (let i = at; i < at + block; i += 34) bytes.writeUInt16LE(half(size / 74), i);
    } else if (type === Q4_K) {
      // An element is d * scale * nibble - dmin * minimum; scales and minimums have 6 bits.
      bytes.writeUInt16LE(half(size / 250), at);
      bytes.writeUInt16LE(half((7.5 * size) / 250), at + 2);
    } else {
      bytes.writeUInt16LE(half(size / 1330), at + 208); // Q6_K: d * int8 scale * (6 bits - 32)
    }
  }
  pools.set(type, bytes);
  return bytes;
}

/** The bits of an F16 from 2^-24 to 1, subnormal ones too. */
function half(value: number): number {
  const exponent = Math.floor(Math.log2(value));
  if (exponent < -14) return Math.round(value * 2 ** 24);
  return ((exponent + 15) << 10) | Math.min(1023, Math.round((value / 2 ** exponent - 1) * 1024));
}

function tensorsOf(shape: Shape, recipe: string): GgufTensor[] {
  const { vocabulary, width, feedForward, layers, heads, keyValueHeads, headSize, tied, experts } = shape;
  const tensors: GgufTensor[] = [];
  const matrix = (name: string, part: string, layer: number, extents: number[]) =>
    tensors.push({ name, type: typeOf(recipe, part, layer, layers), shape: extents });
  const norm = (name: string, length: number) => tensors.push({ name, type: F32, shape: [length] });
  matrix("token_embd.weight", tied ? "output" : "token_embd", 0, [width, vocabulary]);
  norm("output_norm.weight", width);
  if (!tied) matrix("output.weight", "output", 0, [width, vocabulary]);
  for (let layer = 0; layer < layers; layer++) {
    const add = (part: string, extents: number[]) => matrix(`blk.${layer}.${part}.weight`, part, layer, extents);
    norm(`blk.${layer}.attn_norm.weight`, width);
    add("attn_q", [width, heads * headSize]);
    add("attn_k", [width, keyValueHeads * headSize]);
    add("attn_v", [width, keyValueHeads * headSize]);
    add("attn_output", [heads * headSize, width]);
    norm(`blk.${layer}.ffn_norm.weight`, width);
    if (experts === undefined) {
      add("ffn_gate", [width, feedForward]);
      add("ffn_up", [width, feedForward]);
      add("ffn_down", [feedForward, width]);
    } else {
      norm(`blk.${layer}.attn_q_norm.weight`, headSize);
      norm(`blk.${layer}.attn_k_norm.weight`, headSize);
      tensors.push({ name: `blk.${layer}.ffn_gate_inp.weight`, type: F32, shape: [width, experts.count] });
      add("ffn_gate_exps", [width, feedForward, experts.count]);
      add("ffn_up_exps", [width, feedForward, experts.count]);
      add("ffn_down_exps", [feedForward, width, experts.count]);
    }
  }
  return tensors;
}

function metadataOf(shape: Shape, recipe: string): GgufEntry[] {
  const { architecture, experts } = shape;
  const number = (key: string, value: number): GgufEntry => ({ key: `${architecture}.${key}`, type: "uint32", value });
  return [
    { key: "general.architecture", type: "string", value: architecture },
    { key: "general.file_type", type: "uint32", value: FILE_TYPES[recipe] ?? 0 },
    number("context_length", 131_072),
    number("embedding_length", shape.width),
    number("block_count", shape.layers),
    number("feed_forward_length", shape.feedForward),
    number("attention.head_count", shape.heads),
    number("attention.head_count_kv", shape.keyValueHeads),
    number("attention.key_length", shape.headSize),
    number("attention.value_length", shape.headSize),
    number("rope.dimension_count", shape.headSize),
    ...(experts
      ? [
          number("expert_count", experts.count),
          number("expert_used_count", experts.used),
          number("expert_feed_forward_length", shape.feedForward),
        ]
      : []),
    { key: `${architecture}.rope.freq_base`, type: "float32", value: 500_000 },
    { key: `${architecture}.attention.layer_norm_rms_epsilon`, type: "float32", value: 1e-5 },
    ...vocabularyMetadata(shape.vocabulary),
  ];
}

/** The file of a model, made if it is not there. */
export function gpuBenchModel(folder: string, name: string): string {
  const file = path.join(folder, `${name}.gguf`);
  if (existsSync(file)) return file;
  const recipe = name.slice(name.lastIndexOf("-") + 1);
  const shape = SHAPES[name.slice(0, name.lastIndexOf("-"))];
  if (shape === undefined || FILE_TYPES[recipe] === undefined) throw new Error(`no model is called ${name}`);

  let offset = 0;
  const tensors = tensorsOf(shape, recipe).map((tensor) => {
    const placed = { ...tensor, offset, data: new Uint8Array(0) };
    offset = Math.ceil((offset + tensorBytes(tensor)) / 32) * 32;
    return placed;
  });
  mkdirSync(folder, { recursive: true });
  const out = openSync(`${file}.part`, "w");
  let position = 0;
  const write = (bytes: Uint8Array) => {
    for (let from = 0; from < bytes.length;) {
      const written = writeSync(out, bytes, from, bytes.length - from, position);
      from += written;
      position += written;
    }
  };
  write(writeGguf({ metadata: metadataOf(shape, recipe), tensors }));
  const start = position;
  let turn = 0;
  for (const tensor of tensors) {
    position = start + tensor.offset;
    const size = tensorBytes(tensor);
    if (tensor.type === F32) {
      // Norms are ones; the gate of the experts is noise.
      const values = new Float32Array(size / 4).fill(1);
      if (tensor.shape.length > 1) values.forEach((_, i) => (values[i] = (Math.random() - 0.5) / 16));
      write(new Uint8Array(values.buffer));
      continue;
    }
    const noise = pool(tensor.type);
    const block = tensorBytes({ type: tensor.type, shape: [256] });
    let at = ((turn++ * 7919) % Math.floor(noise.length / block)) * block;
    for (let left = size; left > 0; at = 0) {
      const part = noise.subarray(at, Math.min(noise.length, at + left));
      write(part);
      left -= part.length;
    }
  }
  closeSync(out);
  renameSync(`${file}.part`, file);
  return file;
}

const [, script, folder, ...names] = process.argv;
if (script !== undefined && path.resolve(script) === import.meta.filename && folder !== undefined) {
  for (const name of names) console.log(gpuBenchModel(folder, name));
}
