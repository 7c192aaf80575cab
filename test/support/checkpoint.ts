// Small random models in Hugging Face's layout, for tests: config.json, sharded safetensors, a tokenizer.

import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";

export interface RawTensor {
  type: "F32" | "F16" | "BF16" | "F8_E4M3" | "F64" | "I32" | "I64";
  /** The slowest dimension first. */
  shape: number[];
  data: Uint8Array;
}

export type Tensors = Map<string, RawTensor>;

/** Numbers in -1..1, the same in each run (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 31 - 1;
  };
}

export function f32(shape: number[], of: (at: number) => number): RawTensor {
  const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, at) => of(at));
  return { type: "F32", shape, data: new Uint8Array(values.buffer) };
}

export function valuesOf({ type, data }: RawTensor): Float32Array {
  if (type !== "F32") throw new Error(`${type} is not F32`);
  return new Float32Array(data.buffer, data.byteOffset, data.byteLength / 4);
}

/** Cuts the lower half of each number off: exact in BF16. */
export function toBf16(tensor: RawTensor): { rounded: RawTensor; stored: RawTensor } {
  const bits = new Uint32Array(tensor.data.slice().buffer);
  const high = Uint16Array.from(bits, (value) => value >>> 16);
  const kept = Uint32Array.from(high, (value) => value << 16);
  return {
    rounded: { ...tensor, data: new Uint8Array(kept.buffer) },
    stored: { type: "BF16", shape: tensor.shape, data: new Uint8Array(high.buffer) },
  };
}

export interface SafetensorsOptions {
  /** Changes the header before it is written. */
  header?: (header: Record<string, { dtype: string; shape: number[]; data_offsets: number[] }>) => void;
  /** The header as it is to be written. */
  text?: (text: string) => string;
  /** Claims another length of the header. */
  length?: bigint;
}

export function encodeSafetensors(tensors: Tensors, options: SafetensorsOptions = {}): Buffer {
  const header: Record<string, { dtype: string; shape: number[]; data_offsets: number[] }> = {};
  let offset = 0;
  for (const [name, { type, shape, data }] of tensors) {
    header[name] = { dtype: type, shape, data_offsets: [offset, (offset += data.length)] };
  }
  options.header?.(header);
  const plain = JSON.stringify({ __metadata__: { format: "pt" }, ...header });
  const text = Buffer.from(options.text?.(plain) ?? plain);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(options.length ?? BigInt(text.length));
  return Buffer.concat([length, text, ...[...tensors.values()].map(({ data }) => data)]);
}

/** Writes the tensors in `shards` files and their index; one file without an index when it is 1. */
export function writeWeights(folder: string, tensors: Tensors, shards: number): void {
  if (shards === 1) {
    writeFileSync(path.join(folder, "model.safetensors"), encodeSafetensors(tensors));
    return;
  }
  const entries = [...tensors];
  const weightMap: Record<string, string> = {};
  for (let shard = 0; shard < shards; shard++) {
    const file = `model-0000${shard + 1}-of-0000${shards}.safetensors`;
    const part = new Map(entries.filter((_, i) => i % shards === shard));
    for (const name of part.keys()) weightMap[name] = file;
    writeFileSync(path.join(folder, file), encodeSafetensors(part));
  }
  writeJson(folder, { "model.safetensors.index.json": { metadata: { total_size: 0 }, weight_map: weightMap } });
}

/** Files of `folder` by name; what is neither text nor bytes is written as JSON. */
export function writeJson(folder: string, files: Record<string, unknown>): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, value] of Object.entries(files)) {
    const isRaw = typeof value === "string" || value instanceof Uint8Array;
    writeFileSync(path.join(folder, name), isRaw ? value : JSON.stringify(value, null, 2));
  }
}
