// The header of a GGUF file as bytes (docs/gguf.md of ggml), little-endian.

import type { MetadataScalar, MetadataType } from "../native.js";

/** What the weights of a tensor are written as. */
export type PlainType = "F32" | "F16" | "BF16";
/** Whole numbers in blocks, with a scale. */
export type PackedType = "Q4_0" | "Q4_1" | "Q8_0";
export type OutputType = PlainType | PackedType;

/** The number of a type, and the size of its blocks (ggml.h, ggml-common.h). */
const TENSOR_TYPES: Readonly<Record<OutputType, { id: number; weights: number; bytes: number }>> = {
  F32: { id: 0, weights: 1, bytes: 4 },
  F16: { id: 1, weights: 1, bytes: 2 },
  Q4_0: { id: 2, weights: 32, bytes: 18 },
  Q4_1: { id: 3, weights: 32, bytes: 20 },
  Q8_0: { id: 8, weights: 32, bytes: 34 },
  BF16: { id: 30, weights: 1, bytes: 2 },
};

export const DEFAULT_ALIGNMENT = 32;
export const NEWEST_VERSION = 3;

/** How many bytes follow `position` to the next multiple of `alignment`. */
export function paddingAfter(position: number, alignment = DEFAULT_ALIGNMENT): number {
  return (alignment - (position % alignment)) % alignment;
}

interface ScalarFormat {
  /** gguf.h: enum gguf_type */
  id: number;
  bytes: number;
  write: (into: Buffer, value: MetadataScalar, at: number) => unknown;
}

/** All but strings, whose length is their own. */
const FORMATS: Readonly<Record<Exclude<MetadataType, "string">, ScalarFormat>> = {
  uint8: { id: 0, bytes: 1, write: (into, value, at) => into.writeUInt8(Number(value), at) },
  int8: { id: 1, bytes: 1, write: (into, value, at) => into.writeInt8(Number(value), at) },
  uint16: { id: 2, bytes: 2, write: (into, value, at) => into.writeUInt16LE(Number(value), at) },
  int16: { id: 3, bytes: 2, write: (into, value, at) => into.writeInt16LE(Number(value), at) },
  uint32: { id: 4, bytes: 4, write: (into, value, at) => into.writeUInt32LE(Number(value), at) },
  int32: { id: 5, bytes: 4, write: (into, value, at) => into.writeInt32LE(Number(value), at) },
  float32: { id: 6, bytes: 4, write: (into, value, at) => into.writeFloatLE(Number(value), at) },
  boolean: { id: 7, bytes: 1, write: (into, value, at) => into.writeUInt8(Number(value), at) },
  uint64: { id: 10, bytes: 8, write: (into, value, at) => into.writeBigUInt64LE(BigInt(value), at) },
  int64: { id: 11, bytes: 8, write: (into, value, at) => into.writeBigInt64LE(BigInt(value), at) },
  float64: { id: 12, bytes: 8, write: (into, value, at) => into.writeDoubleLE(Number(value), at) },
};
const STRING = 8;
const ARRAY = 9;

/** Values fit their types; numbers that do not are a defect of the caller. */
export type Entry =
  | { key: string; type: MetadataType; value: MetadataScalar }
  | { key: string; type: "array"; of: MetadataType; values: readonly MetadataScalar[] };

export const uint16 = (key: string, value: number): Entry => ({ key, type: "uint16", value });
export const int32 = (key: string, value: number): Entry => ({ key, type: "int32", value });
export const uint32 = (key: string, value: number): Entry => ({ key, type: "uint32", value });
export const float32 = (key: string, value: number): Entry => ({ key, type: "float32", value });
export const boolean = (key: string, value: boolean): Entry => ({ key, type: "boolean", value });
export const string = (key: string, value: string): Entry => ({ key, type: "string", value });

const u32 = (value: number) => encodeScalars("uint32", [value]);
export const u64 = (value: number): Buffer => encodeScalars("uint64", [value]);

export function encodeText(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([u64(bytes.length), bytes]);
}

function encodeScalars(type: MetadataType, values: readonly MetadataScalar[]): Buffer {
  if (type === "string") return Buffer.concat(values.map((value) => encodeText(String(value))));
  const { bytes, write } = FORMATS[type];
  const buffer = Buffer.alloc(bytes * values.length);
  values.forEach((value, i) => write(buffer, value, bytes * i));
  return buffer;
}

const idOf = (type: MetadataType) => (type === "string" ? STRING : FORMATS[type].id);

export function encodeEntry(entry: Entry): Buffer {
  const value =
    entry.type === "array"
      ? [u32(ARRAY), u32(idOf(entry.of)), u64(entry.values.length), encodeScalars(entry.of, entry.values)]
      : [u32(idOf(entry.type)), encodeScalars(entry.type, [entry.value])];
  return Buffer.concat([encodeText(entry.key), ...value]);
}

/** The first 24 bytes. */
export function encodeStart(version: number, tensors: number, entries: number): Buffer {
  return Buffer.concat([Buffer.from("GGUF"), u32(version), u64(tensors), u64(entries)]);
}

export interface TensorInfo {
  name: string;
  type: OutputType;
  /** The fastest dimension first. */
  shape: number[];
}

export function bytesOf({ type, shape }: TensorInfo): number {
  const { weights, bytes } = TENSOR_TYPES[type];
  return (shape.reduce((product, extent) => product * extent, 1) / weights) * bytes;
}

/** The header, up to where the first tensor begins, and where each tensor begins in the file. */
export function encodeHeader(
  metadata: readonly Entry[],
  tensors: readonly TensorInfo[],
): { header: Buffer; offsets: number[] } {
  const parts = [encodeStart(NEWEST_VERSION, tensors.length, metadata.length), ...metadata.map(encodeEntry)];
  const relative: number[] = [];
  let offset = 0;
  for (const { name, shape, type } of tensors) {
    parts.push(
      encodeText(name),
      u32(shape.length),
      encodeScalars("uint64", shape),
      u32(TENSOR_TYPES[type].id),
      u64(offset),
    );
    relative.push(offset);
    const end = offset + bytesOf({ name, shape, type });
    offset = end + paddingAfter(end);
  }
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const begin = length + paddingAfter(length);
  parts.push(Buffer.alloc(begin - length));
  return { header: Buffer.concat(parts), offsets: relative.map((at) => begin + at) };
}
