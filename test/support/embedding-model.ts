// Encoders of random weights, in the shape of BERT, with a vocabulary of WordPiece.

import { writeGguf, type GgufEntry, type GgufTensor } from "./gguf-writer.js";
import { F16, F32, randomMatrix, randomNumbers } from "./random-model.js";

export interface EncoderShape {
  vocabulary: number;
  width: number;
  feedForward: number;
  layers: number;
  heads: number;
  contextLength: number;
  /** llama.cpp's number: 0 none, 1 mean, 2 cls, 4 rank. Undefined: the file does not say. */
  pooling: number | undefined;
  /** Of the matrices. Default: F32. */
  type?: typeof F32 | typeof F16;
}

export const TINY_ENCODER: EncoderShape = {
  vocabulary: 600,
  width: 32,
  feedForward: 64,
  layers: 2,
  heads: 4,
  contextLength: 64,
  pooling: 1,
};

/** All-MiniLM-L6-v2 has this shape. */
export const MINI_LM: EncoderShape = {
  vocabulary: 30_522,
  width: 384,
  feedForward: 1536,
  layers: 6,
  heads: 12,
  contextLength: 512,
  pooling: 1,
};

export function randomEncoder(shape: EncoderShape): Buffer {
  const { vocabulary, width, feedForward, layers, heads, contextLength, pooling, type = F32 } = shape;
  const random = randomNumbers(5);
  const tensors: GgufTensor[] = [];
  const tensor = (name: string, dimensions: number[], of: () => number) => {
    const data = Float32Array.from({ length: dimensions.reduce((a, b) => a * b, 1) }, of);
    tensors.push({ name, type: F32, shape: dimensions, data: new Uint8Array(data.buffer) });
  };
  const uniform = (scale: number) => () => (2 * random() - 1) * scale;
  const matrix = (name: string, columns: number, rows: number, scale: number) => {
    if (type === F32) tensor(name, [columns, rows], uniform(scale));
    else tensors.push({ name, type, shape: [columns, rows], data: randomMatrix(type, columns, rows, random) });
  };
  const linear = (name: string, columns: number, rows: number) => {
    matrix(`${name}.weight`, columns, rows, 2 * Math.sqrt(3 / columns));
    tensor(`${name}.bias`, [rows], uniform(0.1));
  };
  const norm = (name: string) => {
    tensor(`${name}.weight`, [width], () => 1 + 0.1 * (random() - 0.5));
    tensor(`${name}.bias`, [width], uniform(0.1));
  };
  matrix("token_embd.weight", width, vocabulary, 1);
  tensor("token_types.weight", [width, 2], uniform(0.1));
  tensor("position_embd.weight", [width, contextLength], uniform(0.3));
  norm("token_embd_norm");
  for (let i = 0; i < layers; i++) {
    for (const part of ["attn_q", "attn_k", "attn_v", "attn_output"]) linear(`blk.${i}.${part}`, width, width);
    norm(`blk.${i}.attn_output_norm`);
    linear(`blk.${i}.ffn_up`, width, feedForward);
    linear(`blk.${i}.ffn_down`, feedForward, width);
    norm(`blk.${i}.layer_output_norm`);
  }
  if (pooling === 4) {
    linear("cls", width, width);
    linear("cls.output", width, 1);
  }
  const number = (key: string, value: number): GgufEntry => ({ key: `bert.${key}`, type: "uint32", value });
  const metadata: GgufEntry[] = [
    { key: "general.architecture", type: "string", value: "bert" },
    number("context_length", contextLength),
    number("embedding_length", width),
    number("block_count", layers),
    number("feed_forward_length", feedForward),
    number("attention.head_count", heads),
    { key: "bert.attention.layer_norm_epsilon", type: "float32", value: 1e-12 },
    { key: "bert.attention.causal", type: "boolean", value: false },
    ...(pooling === undefined ? [] : [number("pooling_type", pooling)]),
    ...wordPieces(vocabulary),
  ];
  return writeGguf({ metadata, tensors });
}

/** Special tokens where BERT has them, letters alone and within words, then words of letters. llama.cpp marks beginnings of words. */
function wordPieces(size: number): GgufEntry[] {
  const special: Record<number, string> = { 0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]" };
  const letters = Array.from("abcdefghijklmnopqrstuvwxyz0123456789.,!?'");
  const plain = [
    ...letters.map((letter) => `▁${letter}`),
    ...letters,
    ..."the and was his her with they went once upon time girl boy dog house play happy friend"
      .split(" ")
      .map((word) => `▁${word}`),
  ];
  const tokens: string[] = [];
  while (tokens.length < size) tokens.push(special[tokens.length] ?? plain.shift() ?? `[unused${tokens.length}]`);
  return [
    { key: "tokenizer.ggml.model", type: "string", value: "bert" },
    { key: "tokenizer.ggml.token_type_count", type: "uint32", value: 2 },
    { key: "tokenizer.ggml.tokens", type: "array", elementType: "string", values: tokens },
    {
      key: "tokenizer.ggml.token_type",
      type: "array",
      elementType: "int32",
      values: tokens.map((_, id) => (id in special ? 3 : 1)),
    },
    { key: "tokenizer.ggml.add_bos_token", type: "boolean", value: true },
    ...(
      [
        ["bos", 101],
        ["seperator", 102],
        ["unknown", 100],
        ["padding", 0],
        ["cls", 101],
        ["mask", 103],
      ] as const
    ).map(([name, id]): GgufEntry => ({ key: `tokenizer.ggml.${name}_token_id`, type: "uint32", value: id })),
  ];
}
