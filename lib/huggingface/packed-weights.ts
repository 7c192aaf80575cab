// Matrices of GPTQ and AWQ: which tensors they are made of, and which type of GGUF holds their numbers as they are.

import type { PackedType } from "../gguf/encode.js";
import { invalidCheckpoint, unsupported } from "./errors.js";
import type { CheckpointQuantization } from "./quantization.js";
import { readBytes, type CheckpointTensor } from "./safetensors.js";

export type GroupQuantization = Extract<CheckpointQuantization, { bits: number }>;

/** A matrix of whole numbers, with a scale and a zero for each group. */
export interface PackedMatrix {
  /** Without ".qweight". */
  name: string;
  quantization: GroupQuantization;
  codes: CheckpointTensor;
  zeros: CheckpointTensor;
  scales: CheckpointTensor & { type: ScaleType };
  /** Which group each input belongs to, where it is not its place. */
  groups: Int32Array | undefined;
  groupSize: number;
  /** Rows and columns. */
  outputs: number;
  inputs: number;
}

const SCALE_TYPES = ["F16", "BF16", "F32"] as const;
export type ScaleType = (typeof SCALE_TYPES)[number];

const BLOCK = 32;

/**
 * The matrix of this name, whose rows are outputs.
 * @param shape of the matrix, rows first
 */
export async function readPacked(
  checkpoint: ReadonlyMap<string, CheckpointTensor>,
  name: string,
  shape: readonly number[],
  quantization: GroupQuantization,
): Promise<PackedMatrix> {
  const { method, bits } = quantization;
  const [outputs = 0, inputs = 0] = shape;
  const groupSize = quantization.groupSize ?? inputs;
  const groups = Math.ceil(inputs / groupSize);
  const isGptq = method === "gptq";
  if ((isGptq ? inputs * bits : 0) % 32 !== 0 || (outputs * bits) % 32 !== 0) {
    throw invalidCheckpoint(`${name} of ${outputs} x ${inputs} weights cannot be packed with ${bits} bits.`, {
      tensor: name,
    });
  }
  const part = (suffix: string, expected: readonly number[], types: readonly string[]) =>
    find(checkpoint, `${name}.${suffix}`, expected, types);
  const codes = part("qweight", isGptq ? [(inputs * bits) / 32, outputs] : [inputs, (outputs * bits) / 32], ["I32"]);
  const zeros = part("qzeros", [groups, (outputs * bits) / 32], ["I32"]);
  const scales = part("scales", [groups, outputs], SCALE_TYPES) as PackedMatrix["scales"];
  const order = isGptq && checkpoint.has(`${name}.g_idx`) ? part("g_idx", [inputs], ["I32"]) : undefined;
  const packed = { name, quantization, codes, zeros, scales, groupSize, groups: undefined, outputs, inputs };
  return order === undefined ? packed : { ...packed, groups: await readGroups(order, groupSize, groups) };
}

/** Of the checkpoint's tensors, those that a matrix of this name is made of. */
export const packedParts = (name: string): string[] =>
  ["qweight", "qzeros", "scales", "g_idx"].map((suffix) => `${name}.${suffix}`);

function find(
  checkpoint: ReadonlyMap<string, CheckpointTensor>,
  name: string,
  shape: readonly number[],
  types: readonly string[],
): CheckpointTensor {
  const tensor = checkpoint.get(name);
  if (tensor === undefined) throw invalidCheckpoint(`The checkpoint has no tensor ${name}.`, { tensor: name });
  if (tensor.shape.join() !== shape.join()) {
    throw invalidCheckpoint(
      `The tensor ${name} has the shape [${tensor.shape.join(", ")}], and config.json asks for [${shape.join(", ")}].`,
      { tensor: name, shape: tensor.shape, expected: shape },
    );
  }
  if (!types.includes(tensor.type)) {
    throw unsupported(`The tensor ${name} has the type ${tensor.type}, and must be ${types.join(" or ")}.`, {
      tensor: name,
      type: tensor.type,
    });
  }
  return tensor;
}

/** Undefined when each input is of the group at its place. */
async function readGroups(tensor: CheckpointTensor, groupSize: number, count: number): Promise<Int32Array | undefined> {
  const data = await readBytes(tensor);
  const groups = Int32Array.from({ length: data.length / 4 }, (_, i) => data.readInt32LE(4 * i));
  const wrong = groups.findIndex((group) => group < 0 || group >= count);
  if (wrong !== -1) {
    throw invalidCheckpoint(
      `Input ${wrong} of ${tensor.name} is of the group ${groups[wrong]}, and there are ${count}.`,
      {
        tensor: tensor.name,
        index: wrong,
      },
    );
  }
  return groups.some((group, i) => group !== Math.floor(i / groupSize)) ? groups : undefined;
}

/**
 * The type of GGUF that holds a matrix without rounding its numbers again: blocks of 32 weights, with a scale of 16 bits.
 * `Q4_0` is (q - 8) d, `Q4_1` is q d + m, `Q8_0` is q d with signs. Numbers of fewer bits fit into 4.
 */
export function exactType({ quantization, scales, groups, groupSize, inputs }: PackedMatrix): PackedType | undefined {
  const { bits, symmetric } = quantization;
  if (groups !== undefined || groupSize % BLOCK !== 0 || inputs % BLOCK !== 0 || scales.type !== "F16")
    return undefined;
  if (bits === 8) return symmetric ? "Q8_0" : undefined;
  return symmetric ? "Q4_0" : "Q4_1";
}

/** Why a matrix has no such type. */
export function whyNotExact({ quantization, scales, groups, groupSize }: PackedMatrix): string {
  if (groups !== undefined) return "the order of activations mixes their groups";
  if (groupSize % BLOCK !== 0) return `their groups of ${groupSize} are not multiples of ${BLOCK}`;
  if (scales.type !== "F16") return `their scales are ${scales.type}`;
  if (quantization.bits === 8) return "8 bits with zeros have no type in GGUF";
  return `their rows are not multiples of ${BLOCK}`;
}
