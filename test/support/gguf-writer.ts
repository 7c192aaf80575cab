// Writes GGUF files for tests: sound ones, broken ones, and changed copies of existing ones.
//
// Independent of the product on purpose: it follows docs/gguf.md of ggml, so that a misreading in native/loading/gguf.cc
// does not repeat itself here.

/** A number of any width; what does not fit is wrapped, so that `-1` in a `uint64` is 2^64-1. */
export type Integer = number | bigint;

/** A string of the format. `{ text, length }` claims another length than it has. */
export type Text = string | Uint8Array | { text: string | Uint8Array; length: Integer };

/** A value as its type wants it. Bytes stand for a string, or for themselves where the type is none. */
export type Scalar = Integer | boolean | Text;

/** The numbers of the value types. */
export const VALUE_TYPES = {
  uint8: 0,
  int8: 1,
  uint16: 2,
  int16: 3,
  uint32: 4,
  int32: 5,
  float32: 6,
  boolean: 7,
  string: 8,
  array: 9,
  uint64: 10,
  int64: 11,
  float64: 12,
} as const;

export type ScalarType = Exclude<keyof typeof VALUE_TYPES, "array">;

export interface GgufScalarEntry {
  key: Text;
  /** A number is written as it is; the value is then bytes. */
  type: ScalarType | number;
  value: Scalar;
}

export interface GgufArrayEntry {
  key: Text;
  type: "array";
  elementType: ScalarType | number;
  values: Scalar[];
  /** Claims another number of elements. */
  length?: Integer;
}

export type GgufEntry = GgufScalarEntry | GgufArrayEntry;

export interface GgufTensor {
  name: Text;
  /** A key of {@link TENSOR_TYPES}, or a number that is none. */
  type: number;
  /** The fastest dimension first. */
  shape: Integer[];
  /** Default: as many zeros as type and shape ask for. */
  data?: Uint8Array;
  /** Claims another offset in the data section. */
  offset?: Integer;
  /** Claims another number of dimensions. */
  dimensions?: number;
}

/** A file to write. All but the first two fields have sound defaults. */
export interface GgufSpec {
  metadata: GgufEntry[];
  tensors: GgufTensor[];
  magic?: string;
  version?: number;
  bigEndian?: boolean;
  entryCount?: Integer;
  tensorCount?: Integer;
  /** What the data is really aligned to; default: `general.alignment`, or 32. */
  alignment?: number;
  /** Cuts the file to this many bytes. */
  truncateTo?: number;
}

/** Name, elements and bytes of a block, by the number of the type (ggml.h, ggml-common.h). */
export const TENSOR_TYPES: ReadonlyMap<number, { name: string; block: number; bytes: number }> = new Map(
  (
    [
      [0, "f32", 1, 4],
      [1, "f16", 1, 2],
      [2, "q4_0", 32, 18],
      [3, "q4_1", 32, 20],
      [6, "q5_0", 32, 22],
      [7, "q5_1", 32, 24],
      [8, "q8_0", 32, 34],
      [9, "q8_1", 32, 36],
      [10, "q2_K", 256, 84],
      [11, "q3_K", 256, 110],
      [12, "q4_K", 256, 144],
      [13, "q5_K", 256, 176],
      [14, "q6_K", 256, 210],
      [15, "q8_K", 256, 292],
      [16, "iq2_xxs", 256, 66],
      [17, "iq2_xs", 256, 74],
      [18, "iq3_xxs", 256, 98],
      [19, "iq1_s", 256, 50],
      [20, "iq4_nl", 32, 18],
      [21, "iq3_s", 256, 110],
      [22, "iq2_s", 256, 82],
      [23, "iq4_xs", 256, 136],
      [24, "i8", 1, 1],
      [25, "i16", 1, 2],
      [26, "i32", 1, 4],
      [27, "i64", 1, 8],
      [28, "f64", 1, 8],
      [29, "iq1_m", 256, 56],
      [30, "bf16", 1, 2],
      [34, "tq1_0", 256, 54],
      [35, "tq2_0", 256, 66],
      [39, "mxfp4", 32, 17],
      [40, "nvfp4", 64, 36],
      [41, "q1_0", 128, 18],
      [42, "q2_0", 64, 18],
    ] as const
  ).map(([number, name, block, bytes]) => [number, { name, block, bytes }]),
);

/** Bytes of a tensor's data; 0 for an unknown type. */
export function tensorBytes({ type, shape }: Pick<GgufTensor, "type" | "shape">): number {
  const traits = TENSOR_TYPES.get(type);
  if (traits === undefined) return 0;
  return (shape.reduce<number>((product, extent) => product * Number(extent), 1) / traits.block) * traits.bytes;
}

/** The file's bytes. */
export function writeGguf(spec: GgufSpec): Buffer {
  const alignment = spec.alignment ?? claimedAlignment(spec.metadata);
  const file = new Output(spec.bigEndian ?? false);
  file.raw(Buffer.from(spec.magic ?? "GGUF", "latin1"));
  file.number("uint32", spec.version ?? 3);
  file.number("uint64", spec.tensorCount ?? spec.tensors.length);
  file.number("uint64", spec.entryCount ?? spec.metadata.length);
  for (const entry of spec.metadata) file.entry(entry);
  const data = spec.tensors.map((tensor) => tensor.data ?? new Uint8Array(tensorBytes(tensor)));
  let offset = 0;
  spec.tensors.forEach((tensor, i) => {
    file.tensor(tensor, offset);
    offset = padded(offset + data[i]!.length, alignment);
  });
  for (const bytes of data) {
    file.pad(alignment);
    file.raw(bytes);
  }
  if (data.length > 0) file.pad(alignment);
  return file.bytes().subarray(0, spec.truncateTo);
}

/** An existing file, taken apart: change it in place, then {@link writeGguf} it. Counts and offsets follow. */
export class GgufDraft implements GgufSpec {
  constructor(
    readonly version: number,
    readonly metadata: GgufEntry[],
    readonly tensors: (GgufTensor & { data: Uint8Array })[],
  ) {}

  /** The entry under `key`. */
  entry(key: string): GgufEntry {
    return this.metadata[this.#indexOf(key)]!;
  }

  /** The elements of the array under `key`; editing them edits the file. */
  array(key: string): Scalar[] {
    const entry = this.entry(key);
    if (entry.type !== "array") throw new Error(`${key} is no array`);
    return entry.values;
  }

  /** Gives the scalar under `key` another value, of the same type. */
  set(key: string, value: Scalar): void {
    const entry = this.entry(key);
    if (entry.type === "array") throw new Error(`${key} is an array`);
    entry.value = value;
  }

  /** Puts `entry` in the place of the one with its key, or at the end. */
  put(entry: GgufEntry): void {
    const index = this.metadata.findIndex(({ key }) => key === entry.key);
    if (index === -1) this.metadata.push(entry);
    else this.metadata[index] = entry;
  }

  drop(key: string): void {
    this.metadata.splice(this.#indexOf(key), 1);
  }

  rename(key: string, to: string): void {
    this.entry(key).key = to;
  }

  /** The tensor called `name`; change its name, type or shape, or replace its data. */
  tensor(name: string): GgufTensor & { data: Uint8Array } {
    return this.tensors[this.#tensorIndexOf(name)]!;
  }

  dropTensor(name: string): void {
    this.tensors.splice(this.#tensorIndexOf(name), 1);
  }

  /** Sets every element of an f32 tensor to `value`. */
  fillTensor(name: string, value: number): void {
    const tensor = this.tensor(name);
    if (TENSOR_TYPES.get(tensor.type)?.name !== "f32") throw new Error(`${name} is not f32`);
    const view = new DataView(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
    for (let at = 0; at < view.byteLength; at += 4) view.setFloat32(at, value, true);
  }

  #indexOf(key: string): number {
    const index = this.metadata.findIndex((entry) => entry.key === key);
    if (index === -1) throw new Error(`there is no metadata key ${key}`);
    return index;
  }

  #tensorIndexOf(name: string): number {
    const index = this.tensors.findIndex((tensor) => tensor.name === name);
    if (index === -1) throw new Error(`there is no tensor ${name}`);
    return index;
  }
}

/** Takes a sound little-endian file apart. The draft shares no memory with `bytes`. */
export function readGgufForRewrite(bytes: Uint8Array): GgufDraft {
  const file = new Input(bytes);
  if (file.raw(4).toString("latin1") !== "GGUF") throw new Error("no GGUF file");
  const version = file.integer("uint32");
  const tensorCount = file.integer("uint64");
  const entryCount = file.integer("uint64");
  const metadata = Array.from({ length: entryCount }, () => file.entry());
  const infos = Array.from({ length: tensorCount }, () => file.tensor());
  const start = padded(file.position, claimedAlignment(metadata));
  const tensors = infos.map(({ offset, ...tensor }) => {
    const from = start + offset;
    return { ...tensor, data: Uint8Array.from(bytes.subarray(from, from + tensorBytes(tensor))) };
  });
  return new GgufDraft(version, metadata, tensors);
}

/** A copy of the file in `bytes`, changed by `edit`. */
export function rewriteGguf(bytes: Uint8Array, edit: (draft: GgufDraft) => void): Buffer {
  const draft = readGgufForRewrite(bytes);
  edit(draft);
  return writeGguf(draft);
}

const WIDTHS: Record<Exclude<ScalarType, "string">, 1 | 2 | 4 | 8> = {
  uint8: 1,
  int8: 1,
  uint16: 2,
  int16: 2,
  uint32: 4,
  int32: 4,
  float32: 4,
  boolean: 1,
  uint64: 8,
  int64: 8,
  float64: 8,
};

const TYPE_NAMES = Object.fromEntries(Object.entries(VALUE_TYPES).map(([name, number]) => [number, name])) as Record<
  number,
  keyof typeof VALUE_TYPES | undefined
>;

function padded(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}

function claimedAlignment(metadata: GgufEntry[]): number {
  const entry = metadata.find(({ key }) => key === "general.alignment");
  return entry?.type === "uint32" && Number(entry.value) > 0 ? Number(entry.value) : 32;
}

class Output {
  readonly #parts: Uint8Array[] = [];
  readonly #bigEndian: boolean;
  #length = 0;

  constructor(bigEndian: boolean) {
    this.#bigEndian = bigEndian;
  }

  bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }

  raw(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.#length += bytes.length;
  }

  pad(alignment: number): void {
    this.raw(new Uint8Array(padded(this.#length, alignment) - this.#length));
  }

  number(type: Exclude<ScalarType, "string">, value: Integer | boolean): void {
    const view = new DataView(new ArrayBuffer(WIDTHS[type]));
    if (type === "float32") view.setFloat32(0, Number(value), !this.#bigEndian);
    else if (type === "float64") view.setFloat64(0, Number(value), !this.#bigEndian);
    else {
      const bits = BigInt(value);
      for (let i = 0; i < view.byteLength; ++i) {
        const at = this.#bigEndian ? view.byteLength - 1 - i : i;
        view.setUint8(at, Number((bits >> BigInt(8 * i)) & 0xffn));
      }
    }
    this.raw(new Uint8Array(view.buffer));
  }

  text(text: Text): void {
    const content = typeof text === "string" || text instanceof Uint8Array ? text : text.text;
    const bytes = typeof content === "string" ? Buffer.from(content) : content;
    this.number("uint64", text === content ? bytes.length : (text as { length: Integer }).length);
    this.raw(bytes);
  }

  scalar(type: ScalarType | number, value: Scalar): void {
    if (type === "string") this.text(value as Text);
    else if (value instanceof Uint8Array) this.raw(value);
    else if (typeof type === "number" || typeof value === "string" || typeof value === "object") {
      throw new Error(`cannot write ${typeof value} as ${type}`);
    } else this.number(type, value);
  }

  type(type: keyof typeof VALUE_TYPES | number): void {
    this.number("uint32", typeof type === "number" ? type : VALUE_TYPES[type]);
  }

  entry(entry: GgufEntry): void {
    this.text(entry.key);
    this.type(entry.type);
    if ("values" in entry) {
      this.type(entry.elementType);
      this.number("uint64", entry.length ?? entry.values.length);
      for (const value of entry.values) this.scalar(entry.elementType, value);
    } else {
      this.scalar(entry.type, entry.value);
    }
  }

  tensor(tensor: GgufTensor, offset: number): void {
    this.text(tensor.name);
    this.number("uint32", tensor.dimensions ?? tensor.shape.length);
    for (const extent of tensor.shape) this.number("int64", extent);
    this.number("uint32", tensor.type);
    this.number("uint64", tensor.offset ?? offset);
  }
}

class Input {
  readonly #bytes: Buffer;
  position = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  raw(count: number): Buffer {
    if (count > this.#bytes.length - this.position) throw new Error("the file ends too early");
    this.position += count;
    return this.#bytes.subarray(this.position - count, this.position);
  }

  number(type: Exclude<ScalarType, "string">): number | bigint | boolean {
    const bytes = this.raw(WIDTHS[type]);
    switch (type) {
      case "float32":
        return bytes.readFloatLE();
      case "float64":
        return bytes.readDoubleLE();
      case "boolean":
        return bytes[0] === 1;
      case "uint64":
        return narrow(bytes.readBigUInt64LE());
      case "int64":
        return narrow(bytes.readBigInt64LE());
      default:
        return type.startsWith("u") ? bytes.readUIntLE(0, WIDTHS[type]) : bytes.readIntLE(0, WIDTHS[type]);
    }
  }

  integer(type: "uint32" | "uint64" | "int64"): number {
    return Number(this.number(type));
  }

  /** Text; the bytes where they are not UTF-8. */
  text(): string | Uint8Array {
    const bytes = this.raw(this.integer("uint64"));
    const text = bytes.toString();
    return Buffer.from(text).equals(bytes) ? text : Uint8Array.from(bytes);
  }

  type(): keyof typeof VALUE_TYPES {
    const type = TYPE_NAMES[this.integer("uint32")];
    if (type === undefined) throw new Error("an unknown value type");
    return type;
  }

  scalar(type: keyof typeof VALUE_TYPES): Scalar {
    if (type === "array") throw new Error("an array in an array");
    return type === "string" ? this.text() : this.number(type);
  }

  entry(): GgufEntry {
    const key = this.text();
    const type = this.type();
    if (type !== "array") return { key, type, value: this.scalar(type) };
    const elementType = this.type() as ScalarType;
    const length = this.integer("uint64");
    return { key, type, elementType, values: Array.from({ length }, () => this.scalar(elementType)) };
  }

  tensor(): GgufTensor & { offset: number } {
    const name = this.text();
    const shape = Array.from({ length: this.integer("uint32") }, () => this.integer("int64"));
    return { name, shape, type: this.integer("uint32"), offset: this.integer("uint64") };
  }
}

/** A number where a double holds it exactly. */
function narrow(value: bigint): number | bigint {
  return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
}
