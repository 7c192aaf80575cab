// GGUF files at random, for properties that hold for all of them.

import fc from "fast-check";
import {
  TENSOR_TYPES,
  tensorBytes,
  type GgufEntry,
  type GgufSpec,
  type GgufTensor,
  type Scalar,
} from "./gguf-writer.js";

const integer = (min: bigint, max: bigint) => fc.bigInt({ min, max });

const SCALARS = {
  uint8: fc.nat(255),
  int8: fc.integer({ min: -128, max: 127 }),
  uint16: fc.nat(65_535),
  int16: fc.integer({ min: -32_768, max: 32_767 }),
  uint32: fc.nat(2 ** 32 - 1),
  int32: fc.integer(),
  uint64: integer(0n, 2n ** 64n - 1n),
  int64: integer(-(2n ** 63n), 2n ** 63n - 1n),
  float32: fc.float({ noNaN: true }),
  float64: fc.double({ noNaN: true }),
  boolean: fc.boolean(),
  string: fc.string({ unit: "grapheme", maxLength: 20 }),
} as const satisfies Record<string, fc.Arbitrary<Scalar>>;

export type RandomType = keyof typeof SCALARS;
export const randomType = fc.constantFrom(...(Object.keys(SCALARS) as RandomType[]));
export const randomScalar = (type: RandomType): fc.Arbitrary<Scalar> => SCALARS[type];

const key = fc.stringMatching(/^[a-z]{1,6}(\.[a-z_]{1,8}){0,2}$/);

export const randomEntry: fc.Arbitrary<GgufEntry> = fc
  .tuple(key, randomType, fc.boolean())
  .chain(([name, type, isArray]) =>
    isArray
      ? fc
          .array(SCALARS[type] as fc.Arbitrary<Scalar>, { maxLength: 5 })
          .map((values): GgufEntry => ({ key: name, type: "array", elementType: type, values }))
      : (SCALARS[type] as fc.Arbitrary<Scalar>).map((value): GgufEntry => ({ key: name, type, value })),
  );

const randomTensor: fc.Arbitrary<GgufTensor> = fc
  .record({
    name: fc.stringMatching(/^[a-z.]{1,12}$/),
    type: fc.constantFrom(...TENSOR_TYPES.keys()),
    blocks: fc.integer({ min: 1, max: 3 }),
    rest: fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 3 }),
    seed: fc.nat(),
  })
  .map(({ name, type, blocks, rest, seed }) => {
    const shape = [blocks * TENSOR_TYPES.get(type)!.block, ...rest];
    const data = Uint8Array.from({ length: tensorBytes({ type, shape }) }, (_, i) => (seed + i * 31) % 251);
    return { name, type, shape, data };
  });

/** A sound file. */
export const randomGguf: fc.Arbitrary<GgufSpec> = fc
  .record({
    version: fc.constantFrom(2, 3),
    alignment: fc.constantFrom(undefined, 8, 32, 64, 256),
    metadata: fc.uniqueArray(randomEntry, { selector: (entry) => entry.key, maxLength: 8 }),
    tensors: fc.uniqueArray(randomTensor, { selector: (tensor) => tensor.name, maxLength: 12 }),
  })
  .map(({ version, alignment, metadata, tensors }) => ({
    version,
    tensors,
    ...(alignment !== undefined && { alignment }),
    metadata: [
      ...metadata,
      ...(alignment === undefined
        ? []
        : [{ key: "general.alignment", type: "uint32", value: alignment } satisfies GgufEntry]),
    ],
  }));
