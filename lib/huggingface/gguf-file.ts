// The header of a GGUF file (docs/gguf.md of ggml), version 3, little-endian.

/** What a tensor is written as, and the number of the type (ggml.h). */
export const TENSOR_TYPES = { F32: 0, F16: 1, BF16: 30 } as const;
export type OutputType = keyof typeof TENSOR_TYPES;
export const BYTES_OF: Readonly<Record<OutputType, number>> = { F32: 4, F16: 2, BF16: 2 };

const VALUE_TYPES = { uint32: 4, int32: 5, float32: 6, boolean: 7, string: 8, array: 9 } as const;

export type Entry =
  | { key: string; type: "uint32" | "float32"; value: number }
  | { key: string; type: "boolean"; value: boolean }
  | { key: string; type: "string"; value: string }
  | { key: string; type: "array"; of: "string"; values: readonly string[] }
  | { key: string; type: "array"; of: "int32" | "float32"; values: readonly number[] };

export const uint32 = (key: string, value: number): Entry => ({ key, type: "uint32", value });
export const float32 = (key: string, value: number): Entry => ({ key, type: "float32", value });
export const boolean = (key: string, value: boolean): Entry => ({ key, type: "boolean", value });
export const string = (key: string, value: string): Entry => ({ key, type: "string", value });

const ALIGNMENT = 32;

export function padded(position: number): number {
  return Math.ceil(position / ALIGNMENT) * ALIGNMENT;
}

export interface TensorInfo {
  name: string;
  type: OutputType;
  /** The fastest dimension first. */
  shape: number[];
}

export function bytesOf({ type, shape }: TensorInfo): number {
  return shape.reduce((product, extent) => product * extent, BYTES_OF[type]);
}

/** The header, up to where the first tensor begins, and where each tensor begins in the file. */
export function encodeHeader(
  metadata: readonly Entry[],
  tensors: readonly TensorInfo[],
): { header: Buffer; offsets: number[] } {
  const parts: Buffer[] = [];
  const number = (bytes: number, write: (buffer: Buffer) => void) => {
    const buffer = Buffer.alloc(bytes);
    write(buffer);
    parts.push(buffer);
  };
  const u32 = (value: number) => number(4, (buffer) => buffer.writeUInt32LE(value));
  const u64 = (value: number) => number(8, (buffer) => buffer.writeBigUInt64LE(BigInt(value)));
  const text = (value: string) => {
    const bytes = Buffer.from(value);
    u64(bytes.length);
    parts.push(bytes);
  };
  const numbers = (of: "int32" | "float32", values: readonly number[]) =>
    number(4 * values.length, (buffer) => {
      values.forEach((value, i) =>
        of === "int32" ? buffer.writeInt32LE(value, 4 * i) : buffer.writeFloatLE(value, 4 * i),
      );
    });

  parts.push(Buffer.from("GGUF"));
  u32(3);
  u64(tensors.length);
  u64(metadata.length);
  for (const entry of metadata) {
    text(entry.key);
    u32(VALUE_TYPES[entry.type]);
    switch (entry.type) {
      case "uint32":
        u32(entry.value);
        break;
      case "float32":
        numbers("float32", [entry.value]);
        break;
      case "boolean":
        parts.push(Buffer.of(entry.value ? 1 : 0));
        break;
      case "string":
        text(entry.value);
        break;
      case "array":
        u32(VALUE_TYPES[entry.of]);
        u64(entry.values.length);
        if (entry.of === "string") entry.values.forEach(text);
        else numbers(entry.of, entry.values);
    }
  }
  const relative: number[] = [];
  let offset = 0;
  for (const tensor of tensors) {
    text(tensor.name);
    u32(tensor.shape.length);
    tensor.shape.forEach(u64);
    u32(TENSOR_TYPES[tensor.type]);
    u64(offset);
    relative.push(offset);
    offset = padded(offset + bytesOf(tensor));
  }
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  parts.push(Buffer.alloc(padded(length) - length));
  return { header: Buffer.concat(parts), offsets: relative.map((at) => padded(length) + at) };
}
