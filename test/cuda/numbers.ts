// 16-bit floating-point types in JavaScript, which has none: to nearest, ties to even.

const wide = new Float32Array(1);
const bitsOfWide = new Uint32Array(wide.buffer);

export function bfloatBits(value: number): number {
  wide[0] = value;
  const bits = bitsOfWide[0]!;
  if (Number.isNaN(value)) return 0x7fff;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

export function bfloatValue(bits: number): number {
  bitsOfWide[0] = bits << 16;
  return wide[0]!;
}

export function halfBits(value: number): number {
  if (Number.isNaN(value)) return 0x7fff;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  if (magnitude >= 65520) return sign | 0x7c00;
  // The distance between neighbours is 2^-24 at least; division and multiplication by powers of two are exact.
  const exponent = Math.max(-14, Math.floor(Math.log2(magnitude || 1)));
  const unit = 2 ** ((2 ** exponent > magnitude && exponent > -14 ? exponent - 1 : exponent) - 10);
  const scaled = magnitude / unit;
  let whole = Math.floor(scaled);
  const rest = scaled - whole;
  if (rest > 0.5 || (rest === 0.5 && whole % 2 === 1)) whole++;
  const rounded = whole * unit;
  if (rounded < 2 ** -14) return sign | (rounded / 2 ** -24);
  let power = Math.floor(Math.log2(rounded));
  if (2 ** power > rounded) power--;
  return sign | ((power + 15) << 10) | (rounded / 2 ** (power - 10) - 1024);
}

export function halfValue(bits: number): number {
  const sign = (bits & 0x8000) !== 0 ? -1 : 1;
  const exponent = (bits >>> 10) & 31;
  const mantissa = bits & 1023;
  if (exponent === 31) return mantissa !== 0 ? NaN : sign * Infinity;
  return sign * (exponent === 0 ? mantissa * 2 ** -24 : (1024 + mantissa) * 2 ** (exponent - 25));
}

export type ElementType = "f32" | "f16" | "bf16";

/** `count` elements of a type, as numbers. */
export class Elements {
  readonly data: Float32Array | Uint16Array;

  constructor(
    readonly type: ElementType,
    readonly count: number,
  ) {
    this.data = type === "f32" ? new Float32Array(count) : new Uint16Array(count);
  }

  get(i: number): number {
    const element = this.data[i]!;
    return this.type === "f32" ? element : this.type === "f16" ? halfValue(element) : bfloatValue(element);
  }

  set(i: number, value: number): void {
    this.data[i] = this.type === "f32" ? value : this.type === "f16" ? halfBits(value) : bfloatBits(value);
  }
}

/** Half the distance between neighbours, relative to a number. */
export const roundingOf = { f32: 2 ** -24, f16: 2 ** -11, bf16: 2 ** -8 };
