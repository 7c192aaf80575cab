import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { ColdstartError } from "../../lib/errors.js";
import type { GgufHeader, MetadataValue } from "../../lib/native.js";
import {
  type GgufEntry,
  type GgufSpec,
  type GgufTensor,
  type Scalar,
  TENSOR_TYPES,
  VALUE_TYPES,
  readGgufForRewrite,
  rewriteGguf,
  tensorBytes,
  writeGguf,
} from "../support/gguf-writer.js";
import { testing } from "./testing-addon.js";

const model = readFileSync(new URL("../../models/tiny-stories.gguf", import.meta.url));

const F32 = 0;
const Q4_0 = 2;
const Q4_K = 12;
const F64 = 28;

const read = (bytes: Uint8Array, arrayLimit = 1000): GgufHeader => testing.readGguf(bytes, arrayLimit);

/** A file of nothing but `metadata` and `tensors`. */
const file = (spec: Partial<GgufSpec>): Buffer => writeGguf({ metadata: [], tensors: [], ...spec });

const tensor = (fields: Partial<GgufTensor> = {}): GgufTensor => ({ name: "t", type: F32, shape: [8], ...fields });

/** One of everything, small enough to go through byte by byte. Its last tensor needs no padding. */
const small: GgufSpec = {
  metadata: [
    { key: "general.architecture", type: "string", value: "llama" },
    { key: "general.alignment", type: "uint32", value: 64 },
    { key: "u8", type: "uint8", value: 200 },
    { key: "i8", type: "int8", value: -100 },
    { key: "u16", type: "uint16", value: 60_000 },
    { key: "i16", type: "int16", value: -30_000 },
    { key: "u32", type: "uint32", value: 4_000_000_000 },
    { key: "i32", type: "int32", value: -2_000_000_000 },
    { key: "f32", type: "float32", value: 0.5 },
    { key: "bool", type: "boolean", value: true },
    { key: "u64", type: "uint64", value: 2n ** 64n - 1n },
    { key: "i64", type: "int64", value: -(2n ** 63n) },
    { key: "f64", type: "float64", value: 0.1 },
    { key: "words", type: "array", elementType: "string", values: ["a", "", "ünïcode"] },
    { key: "numbers", type: "array", elementType: "int16", values: [1, -2, 3] },
    { key: "nothing", type: "array", elementType: "float32", values: [] },
  ],
  tensors: [
    tensor({ name: "a.weight", type: Q4_0, shape: [32, 3] }),
    tensor({ name: "scalar", shape: [] }),
    tensor({ name: "b.weight", shape: [16, 2, 1, 2] }),
  ],
};

/** Asserts that `bytes` are refused, for the reason that `message` names. */
function assertRefused(bytes: Uint8Array, message: RegExp, arrayLimit?: number): ColdstartError {
  try {
    read(bytes, arrayLimit);
  } catch (error) {
    assert(error instanceof ColdstartError, String(error));
    assert.equal(error.code, "INVALID_GGUF");
    assert.match(error.message, message);
    return error;
  }
  assert.fail(`was accepted, expected ${message.source}`);
}

/** What the header should say of `entry`, as the addon makes it. */
function expectedValue(entry: GgufEntry, arrayLimit: number): MetadataValue {
  const convert = (value: Scalar): string | number | bigint | boolean => {
    if (typeof value !== "object") return value;
    assert(value instanceof Uint8Array);
    return Buffer.from(value).toString();
  };
  if (!("values" in entry)) return convert(entry.value);
  return {
    elementType: String(entry.elementType),
    length: entry.values.length,
    values: entry.values.slice(0, arrayLimit).map(convert),
  };
}

/** The header that the independent reader of test/support finds. */
function expectedHeader(bytes: Uint8Array, arrayLimit: number): Pick<GgufHeader, "metadata" | "tensors" | "version"> {
  const draft = readGgufForRewrite(bytes);
  const claimed = draft.metadata.find(({ key }) => key === "general.alignment");
  const alignment = claimed !== undefined && "value" in claimed ? Number(claimed.value) : 32;
  let offset = 0;
  return {
    version: draft.version,
    metadata: Object.fromEntries<MetadataValue>(
      draft.metadata.map((entry) => {
        assert(typeof entry.key === "string");
        return [entry.key, expectedValue(entry, arrayLimit)];
      }),
    ),
    tensors: draft.tensors.map((info) => {
      assert(typeof info.name === "string");
      const at = offset;
      offset = Math.ceil((offset + info.data.length) / alignment) * alignment;
      return {
        name: info.name,
        type: TENSOR_TYPES.get(info.type)!.name,
        shape: info.shape.map(Number),
        offset: at,
        bytes: info.data.length,
      };
    }),
  };
}

describe("ReadGguf", () => {
  describe("on a sound file", () => {
    it("reads the facts of the packaged model", () => {
      const header = read(model);
      assert.equal(header.version, 3);
      assert.equal(header.metadata["general.architecture"], "llama");
      assert.equal(header.metadata["llama.block_count"], 4);
      assert.equal(header.metadata["llama.embedding_length"], 128);
      assert.equal(header.metadata["llama.context_length"], 256);
      assert.equal((header.metadata["tokenizer.ggml.tokens"] as { length: number }).length, 640);
      assert.equal(header.fileSize, model.length);
      assert.equal(header.alignment, 32);
      assert.equal(header.dataOffset % 32, 0);
    });

    it("finds the metadata and tensors of the packaged model that an independent reader finds", () => {
      const { version, metadata, tensors, parameters, weightBytes } = read(model, 640);
      assert.deepEqual({ version, metadata, tensors }, expectedHeader(model, 640));
      assert.deepEqual(Object.keys(metadata), Object.keys(expectedHeader(model, 640).metadata), "file order");
      assert.equal(tensors.length, 39);
      assert.equal(
        parameters,
        tensors.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
      );
      assert.equal(
        weightBytes,
        tensors.reduce((sum, { bytes }) => sum + bytes, 0),
      );
    });

    it("reads every type of value, and integers beyond 2^53 as bigints", () => {
      const bytes = writeGguf(small);
      const { metadata } = read(bytes);
      assert.deepEqual(metadata, expectedHeader(bytes, 1000).metadata);
      assert.equal(metadata["u8"], 200);
      assert.equal(metadata["i8"], -100);
      assert.equal(metadata["u16"], 60_000);
      assert.equal(metadata["i16"], -30_000);
      assert.equal(metadata["u32"], 4_000_000_000);
      assert.equal(metadata["i32"], -2_000_000_000);
      assert.equal(metadata["f32"], 0.5);
      assert.equal(metadata["bool"], true);
      assert.equal(metadata["u64"], 18_446_744_073_709_551_615n);
      assert.equal(metadata["i64"], -9_223_372_036_854_775_808n);
      assert.equal(metadata["f64"], 0.1);
      assert.deepEqual(metadata["words"], { elementType: "string", length: 3, values: ["a", "", "ünïcode"] });
    });

    it("reads integers up to 2^53 - 1 as numbers", () => {
      const value = (type: "uint64" | "int64", number: bigint): unknown =>
        read(file({ metadata: [{ key: "n", type, value: number }] })).metadata["n"];
      const limit = BigInt(Number.MAX_SAFE_INTEGER);
      assert.equal(value("uint64", limit), Number.MAX_SAFE_INTEGER);
      assert.equal(value("int64", limit), Number.MAX_SAFE_INTEGER);
      assert.equal(value("int64", -limit), Number.MIN_SAFE_INTEGER);
      assert.equal(value("uint64", limit + 1n), limit + 1n);
      assert.equal(value("int64", limit + 1n), limit + 1n);
      assert.equal(value("int64", -limit - 1n), -limit - 1n);
    });

    it("reads arrays of every type", () => {
      const types = (Object.keys(VALUE_TYPES) as (keyof typeof VALUE_TYPES)[]).filter((type) => type !== "array");
      const samples = { string: ["x", "yz"], boolean: [true, false] } as Partial<Record<string, Scalar[]>>;
      const metadata = types.map((elementType): GgufEntry => ({
        key: elementType,
        type: "array",
        elementType,
        values: samples[elementType] ?? [1, 2],
      }));
      const bytes = file({ metadata });
      assert.deepEqual(read(bytes).metadata, expectedHeader(bytes, 1000).metadata);
    });

    it("keeps no more of an array than the limit", () => {
      const bytes = writeGguf(small);
      for (const limit of [0, 1, 2, 3, 4]) {
        assert.deepEqual(read(bytes, limit).metadata, expectedHeader(bytes, limit).metadata);
      }
      assert.deepEqual(read(bytes, 2).metadata["words"], { elementType: "string", length: 3, values: ["a", ""] });
    });

    it("reads every tensor type with its name and size", () => {
      const tensors = [...TENSOR_TYPES.keys()].map((type) => tensor({ name: `t${type}`, type, shape: [256, 2] }));
      assert.equal(tensors.length, 35);
      const bytes = file({ tensors });
      assert.deepEqual(read(bytes).tensors, expectedHeader(bytes, 0).tensors);
    });

    it("honours general.alignment", () => {
      for (const alignment of [1, 8, 64, 4096]) {
        const bytes = file({
          metadata: [{ key: "general.alignment", type: "uint32", value: alignment }],
          tensors: [tensor({ name: "a", shape: [3] }), tensor({ name: "b", shape: [5] })],
        });
        const header = read(bytes);
        assert.equal(header.alignment, alignment);
        assert.equal(header.dataOffset % alignment, 0);
        assert.equal(header.tensors[1]!.offset, Math.ceil(12 / alignment) * alignment);
      }
    });

    it("reads version 2, and files without metadata or tensors", () => {
      assert.equal(read(file({ version: 2 })).version, 2);
      const header = read(file({}));
      assert.deepEqual(header.metadata, {});
      assert.deepEqual(header.tensors, []);
    });

    it("does without padding after the last tensor", () => {
      const bytes = file({ tensors: [tensor({ shape: [1] })] });
      assert.equal(read(bytes.subarray(0, bytes.length - 28)).tensors.length, 1);
      assertRefused(bytes.subarray(0, bytes.length - 29), /truncated/);
    });

    it("takes the longest names", () => {
      const key = "k".repeat(65_535);
      const name = "n".repeat(63);
      const header = read(file({ metadata: [{ key, type: "uint8", value: 1 }], tensors: [tensor({ name })] }));
      assert.equal(header.metadata[key], 1);
      assert.equal(header.tensors[0]!.name, name);
    });

    it("treats keys with a meaning in JavaScript as keys", () => {
      const keys = ["__proto__", "constructor", "toString", "hasOwnProperty"];
      const { metadata } = read(file({ metadata: keys.map((key) => ({ key, type: "string", value: "polluted" })) }));
      assert.deepEqual(Object.keys(metadata), keys);
      assert.equal(Object.getPrototypeOf(metadata), Object.prototype);
      assert.equal(Object.getOwnPropertyDescriptor(metadata, "__proto__")?.value, "polluted");
      assert.equal(({} as Record<string, unknown>)["polluted"], undefined);
      const nested = read(file({ metadata: [{ key: "__proto__", type: "array", elementType: "uint8", values: [7] }] }));
      assert.equal(Object.getPrototypeOf(nested.metadata), Object.prototype);
      assert.equal(({} as { elementType?: unknown }).elementType, undefined);
    });

    it("replaces what is not UTF-8 in strings", () => {
      const { metadata } = read(file({ metadata: [{ key: "s", type: "string", value: Buffer.from([0x61, 0xff]) }] }));
      assert.equal(metadata["s"], "a\ufffd");
    });
  });

  describe("refuses", () => {
    const entry = (fields: Partial<GgufEntry>): Buffer =>
      file({ metadata: [{ key: "k", type: "uint8", value: 1, ...fields } as GgufEntry] });
    const array = (fields: object): Buffer => entry({ type: "array", elementType: "uint8", values: [], ...fields });
    const one = (fields: Partial<GgufTensor>): Buffer => file({ tensors: [tensor(fields)] });
    const alignment = (value: number): Buffer =>
      file({
        metadata: [{ key: "general.alignment", type: "uint32", value }],
        tensors: [tensor()],
        alignment: 32,
      });
    const key = { key: "k", type: "uint8", value: 1 } as const;

    const cases: Record<string, [bytes: Buffer, message: RegExp, arrayLimit?: number]> = {
      "an empty file": [Buffer.alloc(0), /it has only 0 bytes/],
      "three bytes": [Buffer.from("GGU"), /it has only 3 bytes/],
      "another magic": [file({ magic: "GGML" }), /starts with 'GGML' instead of 'GGUF'/],
      "a magic that cannot be shown": [file({ magic: "\0\x01\xff\n" }), /starts with '\?\?\?\?' instead/],
      "a web page": [Buffer.from("<!DOCTYPE html><html></html>"), /starts with '<!DO'/],
      "version 0": [file({ version: 0 }), /version is 0, and 2 and 3/],
      "version 1": [file({ version: 1 }), /version is 1, and 2 and 3/],
      "version 4": [file({ version: 4 }), /version is 4, and 2 and 3/],
      "the other byte order": [writeGguf({ ...small, bigEndian: true }), /byte order/],

      "more metadata entries than any model": [file({ entryCount: 10_001 }), /10001 metadata entries, over the limit/],
      "2^64-1 metadata entries": [file({ entryCount: -1 }), /18446744073709551615 metadata entries, over the limit/],
      "more metadata entries than fit": [
        file({ metadata: [key], entryCount: 2 }),
        /2 metadata entries, more than its 38 bytes/,
      ],
      "more tensors than any model": [file({ tensorCount: 100_001 }), /100001 tensors, over the limit/],
      "2^63 tensors": [file({ tensorCount: 2n ** 63n }), /9223372036854775808 tensors, over the limit/],
      "more tensors than fit": [file({ tensorCount: 1 }), /1 tensors, more than its 24 bytes/],

      "a key longer than the file": [entry({ key: { text: "k", length: 1000 } }), /metadata key 0 claims 1000 bytes/],
      "a key of 2^63 bytes": [
        entry({ key: { text: "k", length: 2n ** 63n } }),
        /metadata key 0 claims 9223372036854775808 bytes, 6 are left/,
      ],
      "a key of 2^64-1 bytes": [entry({ key: { text: "k", length: -1 } }), /claims 18446744073709551615 bytes/],
      "a key over the limit": [
        entry({ key: "k".repeat(65_536) }),
        /metadata key 0 is 65536 bytes long, over the limit/,
      ],
      "an empty key": [entry({ key: "", value: 1, type: "uint16" }), /metadata key 0 is empty/],
      "a key with a zero byte": [entry({ key: "a\0b" }), /metadata key 0 contains a zero byte/],
      "a key that occurs twice": [file({ metadata: [key, key] }), /metadata key 'k' occurs twice/],
      "a string value of 2^63 bytes": [
        entry({ type: "string", value: { text: "v", length: 2n ** 63n } }),
        /metadata 'k' claims 9223372036854775808 bytes, 1 are left/,
      ],
      "a string value of 2^64-1 bytes": [
        entry({ type: "string", value: { text: "v", length: -1 } }),
        /claims 18446744073709551615 bytes, 1 are left/,
      ],
      "a string value one byte too long": [
        entry({ type: "string", value: { text: "v", length: 2 } }),
        /metadata 'k' claims 2 bytes, 1 are left/,
      ],
      "an unknown value type": [entry({ type: 13, value: Buffer.of(1) }), /metadata 'k' has the unknown type 13/],
      "value type 2^32-1": [entry({ type: -1, value: Buffer.of(1) }), /unknown type 4294967295/],
      "a boolean of 2": [entry({ type: "boolean", value: 2 }), /metadata 'k' is a boolean with the value 2/],
      "a boolean of 2 in an array": [array({ elementType: "boolean", values: [true, 2] }), /boolean with the value 2/],

      "an array of an unknown type": [
        array({ elementType: 99 }),
        /the elements of metadata 'k' has the unknown type 99/,
      ],
      "an array of arrays": [
        array({ elementType: VALUE_TYPES.array, length: 1 }),
        /metadata 'k' is an array of arrays/,
      ],
      "an array one element too long": [array({ values: [1, 2], length: 3 }), /metadata 'k' claims 3 elements/],
      "an array of 2^64-1 bytes": [array({ length: -1 }), /claims 18446744073709551615 elements, more than/],
      "an array whose bytes overflow": [
        array({ elementType: "uint64", length: 2n ** 61n }),
        /2305843009213693952 elements/,
      ],
      "an array of too many strings": [
        array({ elementType: "string", values: ["", ""], length: 3 }),
        /claims 3 elements/,
      ],
      "an array with a string of 2^64-1 bytes": [
        array({ elementType: "string", values: ["a", { text: "b", length: -1 }] }),
        /metadata 'k' claims 18446744073709551615 bytes/,
      ],
      "such a string beyond the array limit": [
        array({ elementType: "string", values: ["a", { text: "b", length: -1 }] }),
        /an element of metadata 'k' claims 18446744073709551615 bytes/,
        1,
      ],
      "strings beyond the array limit that end early": [
        array({ elementType: "string", values: ["0123456789abcdef", "b"], length: 4 }),
        /it ends inside the length of an element of metadata 'k'/,
        0,
      ],

      "alignment 0": [alignment(0), /general\.alignment is 0, not a power of two/],
      "alignment 3": [alignment(3), /general\.alignment is 3, not a power of two/],
      "alignment 2^32-1": [alignment(-1), /general\.alignment is 4294967295, not a power of two/],
      "an alignment beyond the file": [alignment(2 ** 31), /truncated.*has only 0/],
      "an alignment that is a uint64": [
        file({ metadata: [{ key: "general.alignment", type: "uint64", value: 32 }] }),
        /general\.alignment is not a uint32/,
      ],
      "an alignment that is a string": [
        file({ metadata: [{ key: "general.alignment", type: "string", value: "32" }] }),
        /general\.alignment is not a uint32/,
      ],
      "an alignment that is an array": [
        file({ metadata: [{ key: "general.alignment", type: "array", elementType: "uint32", values: [32] }] }),
        /general\.alignment is not a uint32/,
      ],

      "a tensor name too long": [one({ name: "n".repeat(64) }), /the name of tensor 0 is 64 bytes long, over .* 63/],
      "a tensor name of 2^64-1 bytes": [
        one({ name: { text: "t", length: -1 } }),
        /the name of tensor 0 claims 18446744073709551615/,
      ],
      "a tensor name with a zero byte": [one({ name: "t\0" }), /the name of tensor 0 contains a zero byte/],
      "a tensor that occurs twice": [file({ tensors: [tensor(), tensor()] }), /tensor 't' occurs twice/],
      "five dimensions": [one({ shape: [1, 1, 1, 1, 1] }), /tensor 't' has 5 dimensions/],
      "2^32-1 dimensions": [one({ dimensions: -1 }), /tensor 't' has 4294967295 dimensions/],
      "a dimension of zero": [one({ shape: [8, 0] }), /tensor 't' has a dimension of 0/],
      "a negative dimension": [one({ shape: [8, -1], data: Buffer.alloc(32) }), /tensor 't' has a dimension of -1/],
      "2^63 elements": [
        one({ shape: [2 ** 32, 2 ** 31], data: Buffer.alloc(32) }),
        /tensor 't' has more elements than a 64-bit number can count/,
      ],
      "elements that wrap around to few": [
        one({ shape: [2 ** 32, 2 ** 32, 1, 1], data: Buffer.alloc(32) }),
        /more elements than a 64-bit number can count/,
      ],
      "bytes that wrap around": [
        one({ type: F64, shape: [2n ** 62n], data: Buffer.alloc(32) }),
        /tensor 't' has more bytes than a 64-bit number can count/,
      ],
      "rows that are no multiple of the block": [
        one({ type: Q4_0, shape: [33], data: Buffer.alloc(64) }),
        /tensor 't' has rows of 33, and type q4_0 needs multiples of 32/,
      ],
      "rows shorter than the block": [one({ type: Q4_K, shape: [8, 32] }), /rows of 8, and type q4_K .* of 256/],
      "a quantized scalar": [one({ type: Q4_0, shape: [], data: Buffer.alloc(18) }), /rows of 1, .* multiples of 32/],
      "a wrong offset": [one({ offset: 32 }), /tensor 't' lies at offset 32, expected 0/],
      "an offset that is not aligned": [
        file({ tensors: [tensor({ name: "a", shape: [1] }), tensor({ name: "b", offset: 4 })] }),
        /tensor 'b' lies at offset 4, expected 32/,
      ],
      "tensors that overlap": [
        file({ tensors: [tensor({ name: "a" }), tensor({ name: "b", offset: 0 })] }),
        /tensor 'b' lies at offset 0, expected 32/,
      ],
      "an offset of 2^64-1": [one({ offset: -1 }), /lies at offset 18446744073709551615, expected 0/],
      "data beyond the end": [
        one({ shape: [16], data: Buffer.alloc(32) }),
        /truncated: tensor 't' ends at byte 64 .* 32/,
      ],
      "a second tensor beyond the end": [
        file({ tensors: [tensor({ name: "a" }), tensor({ name: "b", data: Buffer.alloc(0) })] }),
        /truncated: tensor 'b' ends at byte 64 .* only 32/,
      ],
      "2^62 bytes of data": [one({ shape: [2n ** 60n], data: Buffer.alloc(32) }), /truncated: tensor 't'/],
      "a tensor table without data": [one({ data: Buffer.alloc(0) }).subarray(0, 24 + 37), /truncated: .* only 0/],
    };

    for (const [what, [bytes, message, arrayLimit]] of Object.entries(cases)) {
      it(what, () => void assertRefused(bytes, message, arrayLimit));
    }

    it("every number that is no tensor type", () => {
      const numbers = Array.from({ length: 64 }, (_, type) => type).filter((type) => !TENSOR_TYPES.has(type));
      for (const removed of [4, 5, 31, 32, 33, 36, 37, 38]) assert(numbers.includes(removed));
      for (const type of [...numbers, 9999, 2 ** 31, 2 ** 32 - 1]) {
        const bytes = one({ type, shape: [256], data: Buffer.alloc(4096) });
        assertRefused(bytes, new RegExp(`tensor 't' has the unknown type ${type}\\.`));
      }
    });

    it("a file cut at any byte", () => {
      const whole = writeGguf(small);
      assert.equal(read(whole).tensors.length, 3);
      const { dataOffset } = read(whole);
      for (let length = 0; length < whole.length; ++length) {
        const message = length >= dataOffset ? /truncated/ : /./;
        for (const limit of [0, 1000]) assertRefused(writeGguf({ ...small, truncateTo: length }), message, limit);
      }
    });

    it("the packaged model cut anywhere", () => {
      for (let length = 0; length < model.length; length += 9973) assertRefused(model.subarray(0, length), /./);
      assertRefused(model.subarray(0, model.length - 1), /truncated: tensor 'blk\.3\.ffn_down\.weight'/);
    });

    it("with the place in the file and what to do", () => {
      const bytes = writeGguf({ ...small, truncateTo: 30 });
      const error = assertRefused(bytes, /^This is not a usable GGUF file: .*\. Download or convert the model again/);
      assert.match(error.remedy, /^Download/);
      assert.equal(error.details["fileSize"], 30);
      assert.equal(error.details["offset"], 24);
    });

    it("names of any bytes without letting them into the message", () => {
      const name = Buffer.from("\x1b[31m\n\u202e\xff", "latin1");
      const error = assertRefused(one({ name, offset: 7 }), /tensor '\?\[31m\?\.?\?+' lies at offset 7/);
      assert.match(error.message, /^[\x20-\x7e]*$/);
      assertRefused(
        entry({ key: "k".repeat(1000), type: 99, value: Buffer.of(0) }),
        /metadata 'k{80}…' has the unknown/,
      );
    });
  });

  it("survives any mutation of a file: a header within its bounds, or INVALID_GGUF", () => {
    const sound = writeGguf({ ...small, metadata: small.metadata.slice(0, 15) });
    const u64 = fc.constantFrom(
      0n,
      1n,
      2n ** 31n,
      2n ** 32n - 1n,
      2n ** 61n,
      2n ** 62n,
      2n ** 63n - 1n,
      2n ** 63n,
      2n ** 64n - 1n,
    );
    const at = fc.nat(sound.length - 1);
    const mutation = fc.oneof(
      fc.record({ kind: fc.constant("byte" as const), at, value: fc.integer({ min: 0, max: 255 }) }),
      fc.record({ kind: fc.constant("word" as const), at, value: u64 }),
      fc.record({ kind: fc.constant("drop" as const), at, value: fc.integer({ min: 1, max: 40 }) }),
      fc.record({ kind: fc.constant("repeat" as const), at, value: fc.integer({ min: 1, max: 40 }) }),
    );
    let accepted = 0;
    let refused = 0;
    fc.assert(
      fc.property(fc.array(mutation, { minLength: 1, maxLength: 4 }), fc.nat(4), (mutations, arrayLimit) => {
        let bytes = Buffer.from(sound);
        for (const { kind, at, value } of mutations) {
          if (kind === "byte") bytes[Math.min(at, bytes.length - 1)] = value;
          else if (kind === "word") bytes.writeBigUInt64LE(value, Math.min(at, bytes.length - 8));
          else {
            const resume = kind === "drop" ? at + value : at - value;
            bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(Math.max(resume, 0))]);
          }
        }
        let header: GgufHeader;
        try {
          header = read(bytes, arrayLimit);
        } catch (error) {
          assert(error instanceof ColdstartError, String(error));
          assert.equal(error.code, "INVALID_GGUF");
          refused++;
          return;
        }
        accepted++;
        for (const { type, shape, offset, bytes: size } of header.tensors) {
          const number = [...TENSOR_TYPES].find(([, { name }]) => name === type)![0];
          assert.equal(size, tensorBytes({ type: number, shape }));
          assert.equal(offset % header.alignment, 0);
          assert(header.dataOffset + offset + size <= bytes.length);
        }
      }),
      { numRuns: 5000 },
    );
    assert(accepted > 100 && refused > 100, `${accepted} accepted, ${refused} refused: the mutations are one-sided`);
  });
});

describe("the GGUF writer of the tests", () => {
  it("writes an existing file back byte by byte", () => {
    assert(writeGguf(readGgufForRewrite(model)).equals(model));
  });

  it("writes an existing file with changes, and offsets that follow", () => {
    const bytes = rewriteGguf(model, (draft) => {
      draft.set("general.name", "another name, longer than the first");
      draft.put({ key: "test.added", type: "uint64", value: 2n ** 60n });
      draft.put({ key: "general.license", type: "uint8", value: 9 });
      draft.drop("llama.vocab_size");
      draft.rename("general.description", "general.summary");
      draft.array("tokenizer.ggml.tokens")[5] = "changed";
      draft.fillTensor("output_norm.weight", Number.NaN);
      draft.tensor("output.weight").name = "renamed.weight";
      draft.dropTensor("token_embd.weight");
    });
    const before = read(model, 640);
    const header = read(bytes, 640);
    assert.equal(header.metadata["general.name"], "another name, longer than the first");
    assert.equal(header.metadata["test.added"], 2n ** 60n);
    assert.equal(header.metadata["general.license"], 9);
    assert(!("llama.vocab_size" in header.metadata));
    assert.equal(header.metadata["general.summary"], before.metadata["general.description"]);
    assert.equal((header.metadata["tokenizer.ggml.tokens"] as { values: unknown[] }).values[5], "changed");
    assert.deepEqual(
      header.tensors.map(({ name }) => name),
      before.tensors.flatMap(({ name }) =>
        name === "token_embd.weight" ? [] : [name === "output.weight" ? "renamed.weight" : name],
      ),
    );
    const data = (of: GgufHeader, from: Buffer, name: string): Buffer => {
      const { offset, bytes: size } = of.tensors.find((candidate) => candidate.name === name)!;
      return from.subarray(of.dataOffset + offset, of.dataOffset + offset + size);
    };
    const norm = data(header, bytes, "output_norm.weight");
    assert.equal(norm.length, 512);
    for (let at = 0; at < norm.length; at += 4) assert(Number.isNaN(norm.readFloatLE(at)));
    assert(data(header, bytes, "renamed.weight").equals(data(before, model, "output.weight")));
    assert(data(header, bytes, "blk.3.ffn_down.weight").equals(data(before, model, "blk.3.ffn_down.weight")));
  });

  it("leaves the file it rewrites alone", () => {
    const copy = Buffer.from(model);
    rewriteGguf(copy, (draft) => draft.fillTensor("output_norm.weight", 1));
    assert(copy.equals(model));
  });
});
