// Matrices packed as AutoGPTQ and AutoAWQ pack them, from numbers that the tests know; and numbers of 16 bits.

import type { RawTensor, Tensors } from "./checkpoint.js";

/** The value of a half-precision number (IEEE 754). */
export function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** To the nearest half-precision number, ties to even; within its range. */
export function roundToHalf(value: number): number {
  const exponent = value === 0 ? -14 : Math.max(Math.floor(Math.log2(Math.abs(value))), -14);
  const step = 2 ** (exponent - 10);
  const below = Math.floor(value / step);
  const rest = value / step - below;
  const rounded = rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below;
  return rounded * step;
}

export interface GroupQuantized {
  bits: number;
  outputs: number;
  inputs: number;
  groupSize: number;
  /** [inputs][outputs] */
  codes: number[][];
  /** [groups][outputs] */
  zeros: number[][];
  /** [groups][outputs], bits of half-precision numbers */
  scales: number[][];
  /** The group of each input. */
  groups: number[];
}

/** A matrix of random codes. `middle`: all zeros are half of the codes; `shuffled`: inputs belong to any groups. */
export function randomQuantized(
  random: () => number,
  {
    bits,
    outputs,
    inputs,
    groupSize,
    middle,
    shuffled,
  }: Pick<GroupQuantized, "bits" | "outputs" | "inputs" | "groupSize"> & { middle: boolean; shuffled: boolean },
): GroupQuantized {
  const integer = (below: number) => Math.min(Math.floor(((random() + 1) / 2) * below), below - 1);
  const grid = <T>(rows: number, columns: number, of: () => T) =>
    Array.from({ length: rows }, () => Array.from({ length: columns }, of));
  const count = Math.ceil(inputs / groupSize);
  const groups = Array.from({ length: inputs }, (_, i) => Math.floor(i / groupSize));
  if (shuffled) groups.sort(() => random());
  return {
    bits,
    outputs,
    inputs,
    groupSize,
    codes: grid(inputs, outputs, () => integer(2 ** bits)),
    zeros: grid(count, outputs, () => (middle ? 2 ** (bits - 1) : integer(2 ** bits))),
    // From 2^-7 to 2^-4, which is what scales of 4 bits are.
    scales: grid(count, outputs, () => 0x2000 + integer(0x0c00) - (bits === 8 ? 0x1000 : 0)),
    groups,
  };
}

/** The weights, rows first, in single precision: scales of 16 bits times small whole numbers are exact. */
export function dequantized({ outputs, inputs, codes, zeros, scales, groups }: GroupQuantized): RawTensor {
  const values = new Float32Array(outputs * inputs);
  for (let row = 0; row < outputs; row++) {
    for (let i = 0; i < inputs; i++) {
      const group = groups[i]!;
      values[row * inputs + i] = fromHalf(scales[group]![row]!) * (codes[i]![row]! - zeros[group]![row]!);
    }
  }
  return { type: "F32", shape: [outputs, inputs], data: new Uint8Array(values.buffer) };
}

const words = (shape: number[], values: number[]): RawTensor => ({
  type: "I32",
  shape,
  data: new Uint8Array(Uint32Array.from(values).buffer),
});

function halves(grid: number[][]): RawTensor {
  const data = new Uint8Array(Uint16Array.from(grid.flat()).buffer);
  return { type: "F16", shape: [grid.length, grid[0]!.length], data };
}

/**
 * A column of codes as words, the way AutoGPTQ's QuantLinear.pack() does it: of 3 bits 32 codes go into three words, where the
 * 11th and the 22nd reach over from one to the next.
 */
function packColumn(codes: number[], bits: number): number[] {
  const packed: number[] = [];
  if (bits !== 3) {
    for (let i = 0; i < codes.length; i += 32 / bits) {
      let word = 0;
      for (let j = 0; j < 32 / bits; j++) word |= codes[i + j]! << (bits * j);
      packed.push(word >>> 0);
    }
    return packed;
  }
  for (let i = 0; i < codes.length;) {
    let word = 0;
    for (let j = i; j < i + 10; j++) word |= codes[j]! << (3 * (j - i));
    i += 10;
    word |= codes[i]! << 30;
    packed.push(word >>> 0);
    word = (codes[i]! >> 2) & 1;
    i += 1;
    for (let j = i; j < i + 10; j++) word |= codes[j]! << (3 * (j - i) + 1);
    i += 10;
    word |= codes[i]! << 31;
    packed.push(word >>> 0);
    word = (codes[i]! >> 1) & 3;
    i += 1;
    for (let j = i; j < i + 10; j++) word |= codes[j]! << (3 * (j - i) + 2);
    i += 10;
    packed.push(word >>> 0);
  }
  return packed;
}

/** @param lessOne zeros are stored less 1, as the format "gptq" does; "gptq_v2" does not */
export function packGptq(name: string, matrix: GroupQuantized, lessOne: boolean, withOrder: boolean): Tensors {
  const { bits, outputs, inputs, codes, zeros, scales, groups } = matrix;
  const columns = Array.from({ length: outputs }, (_, column) =>
    packColumn(
      codes.map((row) => row[column]!),
      bits,
    ),
  );
  const lines = (inputs * bits) / 32;
  const qweight = Array.from({ length: lines }, (_, line) => columns.map((column) => column[line]!));
  const stored = zeros.map((row) => row.map((zero) => (lessOne ? (zero - 1) & (2 ** bits - 1) : zero)));
  const qzeros = stored.map((row) => packColumn(row, bits));
  return new Map([
    [`${name}.qweight`, words([lines, outputs], qweight.flat())],
    [`${name}.qzeros`, words([zeros.length, (outputs * bits) / 32], qzeros.flat())],
    [`${name}.scales`, halves(scales)],
    ...(withOrder ? ([[`${name}.g_idx`, words([inputs], groups)]] as const) : []),
  ]);
}

/** As AutoAWQ's WQLinear_GEMM.from_linear(): eight outputs a word, in this order. */
export function packAwq(name: string, { outputs, inputs, codes, zeros, scales }: GroupQuantized): Tensors {
  const order = [0, 2, 4, 6, 1, 3, 5, 7];
  const packRow = (row: number[]) =>
    Array.from({ length: outputs / 8 }, (_, column) => {
      let word = 0;
      order.forEach((from, i) => (word |= row[column * 8 + from]! << (4 * i)));
      return word >>> 0;
    });
  return new Map([
    [`${name}.qweight`, words([inputs, outputs / 8], codes.flatMap(packRow))],
    [`${name}.qzeros`, words([zeros.length, outputs / 8], zeros.flatMap(packRow))],
    [`${name}.scales`, halves(scales)],
  ]);
}
