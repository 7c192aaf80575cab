// Projectors of random weights, in the shapes of real ones: what they show is noise, and the same in llama.cpp's own tools.

import { writeGguf, type GgufEntry, type GgufTensor } from "./gguf-writer.js";
import { F32, randomMatrix, randomNumbers } from "./random-model.js";

/**
 * As llama.cpp names them: LLaVA's, one whose rows see each other (Gemma 3), one with positions in two dimensions and images of any size
 * (Qwen2-VL), and one for recordings (Ultravox).
 */
export type ProjectorKind = "mlp" | "gemma3" | "qwen2vl_merger" | "ultravox";

const WIDTH = 32;
const HEADS = 2;
const FEED_FORWARD = 64;
const LAYERS = 2;
const IMAGE = 56;
const PATCH = 14;
const MELS = 80;
const STACK = 4;

/** @param modelWidth of the language model */
export function randomProjector(kind: ProjectorKind, modelWidth: number, seed = 1): Buffer {
  const random = randomNumbers(seed);
  const tensor = (name: string, ...shape: number[]): GgufTensor => {
    const [columns = 1, ...rest] = shape;
    const rows = rest.reduce((product, one) => product * one, 1);
    return { name, type: F32, shape, data: randomMatrix(F32, columns, rows, random) };
  };
  const layer = (prefix: string, i: number): GgufTensor[] => {
    const at = `${prefix}.blk.${i}`;
    const pair = (name: string, columns: number, rows: number, withBias = true) => [
      tensor(`${at}.${name}.weight`, columns, rows),
      ...(withBias ? [tensor(`${at}.${name}.bias`, rows)] : []),
    ];
    return [
      ...["ln1", "ln2"].flatMap((name) => [tensor(`${at}.${name}.weight`, WIDTH), tensor(`${at}.${name}.bias`, WIDTH)]),
      ...pair("attn_q", WIDTH, WIDTH),
      ...pair("attn_k", WIDTH, WIDTH, prefix === "v"),
      ...pair("attn_v", WIDTH, WIDTH),
      ...pair("attn_out", WIDTH, WIDTH),
      ...pair("ffn_up", WIDTH, FEED_FORWARD),
      ...pair("ffn_down", FEED_FORWARD, WIDTH),
    ];
  };
  const hears = kind === "ultravox";
  const prefix = hears ? "a" : "v";
  const patches = (IMAGE / PATCH) ** 2;
  const pair = (name: string, columns: number, rows: number) => [
    tensor(`${name}.weight`, columns, rows),
    tensor(`${name}.bias`, rows),
  ];
  const own: Record<ProjectorKind, () => GgufTensor[]> = {
    mlp: () => [
      tensor("v.class_embd", WIDTH),
      tensor("v.position_embd.weight", WIDTH, patches + 1),
      ...pair("mm.0", WIDTH, modelWidth),
      ...pair("mm.2", modelWidth, modelWidth),
    ],
    gemma3: () => [
      tensor("v.position_embd.weight", WIDTH, patches),
      ...["weight", "bias"].map((part) => tensor(`v.post_ln.${part}`, WIDTH)),
      tensor("mm.input_projection.weight", modelWidth, WIDTH),
      tensor("mm.soft_emb_norm.weight", WIDTH),
    ],
    qwen2vl_merger: () => [
      tensor("v.patch_embd.weight.1", PATCH, PATCH, 3, WIDTH),
      ...["weight", "bias"].map((part) => tensor(`v.post_ln.${part}`, WIDTH)),
      ...pair("mm.0", 4 * WIDTH, 4 * WIDTH),
      ...pair("mm.2", 4 * WIDTH, modelWidth),
    ],
    ultravox: () => [
      tensor("a.conv1d.1.weight", 3, MELS, WIDTH),
      tensor("a.conv1d.1.bias", 1, WIDTH),
      tensor("a.conv1d.2.weight", 3, WIDTH, WIDTH),
      tensor("a.conv1d.2.bias", 1, WIDTH),
      tensor("a.position_embd.weight", WIDTH, 1500),
      ...["weight", "bias"].map((part) => tensor(`a.post_ln.${part}`, WIDTH)),
      tensor("mm.a.norm_pre.weight", STACK * WIDTH),
      tensor("mm.a.mlp.1.weight", STACK * WIDTH, 64),
      tensor("mm.a.norm_mid.weight", 32),
      tensor("mm.a.mlp.2.weight", 32, modelWidth),
    ],
  };
  const tensors = [
    ...(hears ? [] : [tensor("v.patch_embd.weight", PATCH, PATCH, 3, WIDTH)]),
    ...Array.from({ length: LAYERS }, (_, i) => layer(prefix, i)).flat(),
    ...own[kind](),
  ];
  const at = hears ? "clip.audio" : "clip.vision";
  const number = (key: string, value: number): GgufEntry => ({ key, type: "uint32", value });
  const three = (key: string): GgufEntry => ({ key, type: "array", elementType: "float32", values: [0.5, 0.5, 0.5] });
  const metadata: GgufEntry[] = [
    { key: "general.architecture", type: "string", value: "clip" },
    { key: hears ? "clip.has_audio_encoder" : "clip.has_vision_encoder", type: "boolean", value: true },
    { key: "clip.projector_type", type: "string", value: kind },
    { key: "clip.use_gelu", type: "boolean", value: true },
    number(`${at}.embedding_length`, WIDTH),
    number(`${at}.feed_forward_length`, FEED_FORWARD),
    number(`${at}.block_count`, LAYERS),
    number(`${at}.projection_dim`, modelWidth),
    number(`${at}.attention.head_count`, HEADS),
    { key: `${at}.attention.layer_norm_epsilon`, type: "float32", value: 1e-6 },
    ...(hears
      ? [number("clip.audio.num_mel_bins", MELS), number("clip.audio.projector.stack_factor", STACK)]
      : [
          number("clip.vision.image_size", IMAGE),
          number("clip.vision.patch_size", PATCH),
          three("clip.vision.image_mean"),
          three("clip.vision.image_std"),
        ]),
    ...(kind === "gemma3" ? [number("clip.vision.projector.scale_factor", 2)] : []),
  ];
  return writeGguf({ metadata, tensors });
}

/** A picture of noise and stripes: BMP, 24 bits, from the bottom up. */
export function randomPicture(width: number, height: number, seed: number): Buffer {
  const random = randomNumbers(seed);
  const row = Math.ceil((width * 3) / 4) * 4;
  const file = Buffer.alloc(54 + row * height);
  file.write("BM", 0, "latin1");
  file.writeUInt32LE(file.length, 2);
  file.writeUInt32LE(54, 10);
  file.writeUInt32LE(40, 14);
  file.writeInt32LE(width, 18);
  file.writeInt32LE(height, 22);
  file.writeUInt16LE(1, 26);
  file.writeUInt16LE(24, 28);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width * 3; x++) file[54 + y * row + x] = ((x >> 3) * 40 + y * seed + 64 * random()) % 256;
  return file;
}

/** A recording of a tone under noise: WAV, 16 bits, one channel. */
export function randomRecording(seconds: number, seed: number, rate = 16_000): Buffer {
  const random = randomNumbers(seed);
  const samples = Math.round(seconds * rate);
  const file = Buffer.alloc(44 + 2 * samples);
  file.write("RIFF", 0, "latin1");
  file.writeUInt32LE(file.length - 8, 4);
  file.write("WAVEfmt ", 8, "latin1");
  file.writeUInt32LE(16, 16);
  file.writeUInt16LE(1, 20);
  file.writeUInt16LE(1, 22);
  file.writeUInt32LE(rate, 24);
  file.writeUInt32LE(2 * rate, 28);
  file.writeUInt16LE(2, 32);
  file.writeUInt16LE(16, 34);
  file.write("data", 36, "latin1");
  file.writeUInt32LE(2 * samples, 40);
  for (let i = 0; i < samples; i++)
    file.writeInt16LE(Math.round(8000 * Math.sin((i * 440 * seed * 6.283) / rate) + 4000 * random()), 44 + 2 * i);
  return file;
}
