// NaN and infinite weights, of every type that a file can have. Where scales are is said by ggml-common.h.

import assert from "node:assert/strict";
import { native } from "../../lib/native.js";
import { coldstartError } from "../support/errors.js";
import { TENSOR_TYPES } from "../support/gguf-writer.js";

const ONE = 0x3c00;
const INFINITY = 0x7c00;
const NOT_A_NUMBER = 0xfe01;

/** Bytes from the start of a block to its scales, which are F16. */
const SCALES: Readonly<Record<string, number[]>> = {
  q4_0: [0],
  q4_1: [0, 2],
  q5_0: [0],
  q5_1: [0, 2],
  q8_0: [0],
  q2_K: [80, 82],
  q3_K: [108],
  q4_K: [0, 2],
  q5_K: [0, 2],
  q6_K: [208],
  iq2_xxs: [0],
  iq2_xs: [0],
  iq3_xxs: [0],
  iq1_s: [0],
  iq4_nl: [0],
  iq3_s: [0],
  iq2_s: [0],
  iq4_xs: [0],
  tq1_0: [52],
  tq2_0: [64],
  q1_0: [0],
  q2_0: [0],
};

describe("weights that are NaN or infinite", () => {
  const BLOCKS = 100;
  const find = (bytes: Uint8Array, type: number) => native().findInvalidWeight(bytes, type);
  const number = (name: string) => [...TENSOR_TYPES].find(([, traits]) => traits.name === name)![0];
  const random = (bytes: number) => Buffer.from(Array.from({ length: bytes }, (_, i) => (i * 7919 + (i >> 3)) & 0xff));

  for (const [name, scales] of Object.entries(SCALES)) {
    it(`are found in ${name}, and nothing else is`, async () => {
      const type = number(name);
      const { block, bytes } = TENSOR_TYPES.get(type)!;
      const sound = random(BLOCKS * bytes);
      for (let i = 0; i < BLOCKS; i++) for (const at of scales) sound.writeUInt16LE(ONE, i * bytes + at);
      assert.equal(await find(sound, type), undefined);
      for (const at of scales) {
        for (const value of [INFINITY, INFINITY | 0x8000, NOT_A_NUMBER]) {
          for (const where of [0, 63, BLOCKS - 1]) {
            const broken = Buffer.from(sound);
            broken.writeUInt16LE(value, where * bytes + at);
            const found = await find(broken, type);
            assert.ok(found !== undefined && Math.floor(found / block) === where, `${found} is not in block ${where}`);
          }
        }
      }
    });
  }

  const plain: [name: string, bytes: number, write: (into: Buffer, value: number, at: number) => unknown][] = [
    ["f32", 4, (into, value, at) => into.writeFloatLE(value, at)],
    ["f64", 8, (into, value, at) => into.writeDoubleLE(value, at)],
    ["f16", 2, (into, value, at) => into.writeUInt16LE(Number.isNaN(value) ? NOT_A_NUMBER : INFINITY, at)],
    ["bf16", 2, (into, value, at) => into.writeUInt16LE(Number.isNaN(value) ? 0x7fc1 : 0xff80, at)],
  ];
  for (const [name, bytes, write] of plain) {
    it(`are found in ${name}, at their places`, async () => {
      const weights = 10_000;
      const zeros = Buffer.alloc(weights * bytes);
      assert.equal(await find(zeros, number(name)), undefined);
      for (const value of [NaN, Infinity, -Infinity]) {
        for (const at of [0, 1, 4095, 4096, weights - 1]) {
          const broken = Buffer.from(zeros);
          write(broken, value, at * bytes);
          assert.equal(await find(broken, number(name)), at);
        }
      }
    });
  }

  it("are found in mxfp4, whose scale is a byte, and in iq1_m, whose scale is in four", async () => {
    const mxfp4 = TENSOR_TYPES.get(number("mxfp4"))!;
    const broken = Buffer.alloc(BLOCKS * mxfp4.bytes);
    assert.equal(await find(broken, number("mxfp4")), undefined);
    broken[63 * mxfp4.bytes] = 0xff;
    assert.equal(await find(broken, number("mxfp4")), 63 * mxfp4.block);
    const iq1 = TENSOR_TYPES.get(number("iq1_m"))!;
    const packed = Buffer.alloc(BLOCKS * iq1.bytes);
    assert.equal(await find(packed, number("iq1_m")), undefined);
    packed.writeUInt16LE(0xc000, 63 * iq1.bytes + 52);
    packed.writeUInt16LE(0x7000, 63 * iq1.bytes + 54);
    assert.equal(Math.floor((await find(packed, number("iq1_m")))! / iq1.block), 63);
  });

  it("are none in integers, nor in nothing", async () => {
    for (const name of ["i8", "i16", "i32", "i64"])
      assert.equal(await find(Buffer.alloc(64, 0xff), number(name)), undefined);
    for (const type of TENSOR_TYPES.keys()) assert.equal(await find(Buffer.alloc(0), type), undefined);
  });

  it("are looked for in whole blocks of types that there are", async () => {
    for (const [bytes, type] of [
      [17, 2],
      [4, -1],
      [4, 1000],
      [4, NaN],
      [4, 4],
    ] as const)
      // prettier-ignore
      assert.throws(() => void find(Buffer.alloc(bytes), type), coldstartError("INVALID_OPTION"));
  });
});
