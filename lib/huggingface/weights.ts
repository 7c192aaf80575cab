// Which tensors of the checkpoint become which of the GGUF file.

import type { WeightType } from "../native.js";
import { invalidCheckpoint, unsupported } from "./errors.js";
import type { Decoder, WeightRule } from "./families/decoder.js";
import { weightsOf } from "./families/decoder.js";
import type { OutputType, PlainType, TensorInfo } from "../gguf/encode.js";
import { exactType, packedParts, readPacked, whyNotExact, type PackedMatrix } from "./packed-weights.js";
import type { CheckpointQuantization } from "./quantization.js";
import { readBytes, type CheckpointTensor } from "./safetensors.js";

/** A tensor of the GGUF file, and where its weights are (native/weights/checkpoint.h). */
export interface PlannedTensor extends TensorInfo {
  /** One after the other. */
  sources: PlannedSource[];
  /** What it is, when it is in no file. */
  values?: Float32Array;
  interleave: number;
  add: number;
}

export type PlannedSource = PlainSource | PackedMatrix;

export interface PlainSource {
  name: string;
  tensor: CheckpointTensor & { type: WeightType };
  /** What blocks of it are multiplied with. */
  scales?: { tensor: CheckpointTensor & { type: WeightType }; rows: number; columns: number };
}

export interface PlannedWeights {
  tensors: PlannedTensor[];
  notes: QuantizationNotes;
}

/** What becomes of weights that are quantized in the checkpoint. */
export interface QuantizationNotes {
  /** Of those that keep their numbers. */
  exact: string[];
  /** Of others. */
  rounded: string[];
}

const READABLE: readonly string[] = ["F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"] satisfies WeightType[];
const SCALES: readonly string[] = ["F32", "F16", "BF16"] satisfies WeightType[];
/** The widest row of any known model has 2^18 weights; a row is held in memory. */
const MAX_COLUMNS = 2 ** 22;

export async function planWeights(
  decoder: Decoder,
  checkpoint: ReadonlyMap<string, CheckpointTensor>,
  type: PlainType | "auto",
  quantization?: CheckpointQuantization,
): Promise<PlannedWeights> {
  const finder = new Finder(checkpoint, renamer(decoder, checkpoint), quantization);
  const tensors: PlannedTensor[] = [];
  for (const rule of weightsOf(decoder)) {
    const sources: PlannedSource[] = [];
    for (const name of rule.from) sources.push(await finder.find(name, rule.shape));
    tensors.push(planTensor(rule, sources, type));
  }
  const { factors } = decoder.rope;
  if (factors) {
    const length = factors.length;
    tensors.splice(2, 0, {
      name: "rope_freqs.weight",
      type: "F32",
      shape: [length],
      sources: [],
      values: factors,
      interleave: 0,
      add: 0,
    });
  }
  for (const name of checkpoint.keys()) {
    if (finder.used.has(name) || decoder.ignored?.test(name) || isIdle(name, decoder)) continue;
    if (await finder.isEmptyBias(name)) continue;
    throw unsupported(`The tensor ${name} is not known for ${decoder.architecture}.`, { tensor: name });
  }
  return { tensors, notes: notesOn(tensors) };
}

/**
 * Tensors that say nothing: angles that are computed, a copy of shared weights, and scales of what is computed with, which is
 * not quantized here.
 */
function isIdle(name: string, decoder: Decoder): boolean {
  if (name.endsWith(".rotary_emb.inv_freq") || /\.(input|k|v)_scale$/.test(name)) return true;
  return decoder.tied && name.endsWith("lm_head.weight");
}

function renamer({ prefixes = [] }: Decoder, checkpoint: ReadonlyMap<string, unknown>): (name: string) => string {
  const prefix = prefixes.find((candidate) => checkpoint.has(`${candidate}embed_tokens.weight`)) ?? "model.";
  return (name) => name.replace(/^model\./, prefix);
}

/** Finds tensors by name, and remembers which were used. */
class Finder {
  readonly used = new Set<string>();
  readonly #checkpoint: ReadonlyMap<string, CheckpointTensor>;
  readonly #rename: (name: string) => string;
  readonly #quantization: CheckpointQuantization | undefined;

  constructor(
    checkpoint: ReadonlyMap<string, CheckpointTensor>,
    rename: (name: string) => string,
    quantization: CheckpointQuantization | undefined,
  ) {
    this.#checkpoint = checkpoint;
    this.#rename = rename;
    this.#quantization = quantization;
  }

  async find(asked: string, shape: readonly number[]): Promise<PlannedSource> {
    const name = this.#rename(asked);
    const base = name.replace(/\.weight$/, "");
    const quantization = this.#quantization;
    const isPacked = !this.#checkpoint.has(name) && this.#checkpoint.has(`${base}.qweight`);
    if (isPacked && quantization !== undefined && "bits" in quantization) {
      for (const part of packedParts(base)) this.used.add(part);
      return readPacked(this.#checkpoint, base, shape, quantization);
    }
    const tensor = this.#take(name, shape, READABLE);
    const scales = quantization?.method === "fp8" ? this.#findScales(base, shape, quantization.block) : undefined;
    return { name, tensor, ...(scales && { scales }) };
  }

  /** As AutoGPTQ writes for layers that have none. */
  async isEmptyBias(name: string): Promise<boolean> {
    const tensor = this.#checkpoint.get(name);
    if (tensor === undefined || !name.endsWith(".bias")) return false;
    if (!this.used.has(name.replace(/bias$/, "qweight"))) return false;
    return (await readBytes(tensor)).every((byte) => byte === 0);
  }

  #findScales(
    base: string,
    [rows = 1, columns = 1]: readonly number[],
    block: readonly [number, number] | undefined,
  ): PlainSource["scales"] {
    const name = [`${base}.weight_scale_inv`, `${base}.weight_scale`].find((one) => this.#checkpoint.has(one));
    if (name === undefined) return undefined;
    const { shape } = this.#checkpoint.get(name) ?? { shape: [] };
    const count = shape.reduce((product, extent) => product * extent, 1);
    if (count === 1) return { tensor: this.#take(name, shape, SCALES), rows, columns };
    if (count === rows && shape[0] === rows) return { tensor: this.#take(name, shape, SCALES), rows: 1, columns };
    const [height, width] = block ?? [rows, columns];
    const expected = [Math.ceil(rows / height), Math.ceil(columns / width)];
    return { tensor: this.#take(name, expected, SCALES), rows: height, columns: width };
  }

  #take(name: string, shape: readonly number[], types: readonly string[]): CheckpointTensor & { type: WeightType } {
    const tensor = this.#checkpoint.get(name);
    if (tensor === undefined) throw invalidCheckpoint(`The checkpoint has no tensor ${name}.`, { tensor: name });
    if (tensor.shape.join() !== shape.join()) {
      throw invalidCheckpoint(
        `The tensor ${name} has the shape [${tensor.shape.join(", ")}], and config.json asks for [${shape.join(", ")}].`,
        { tensor: name, shape: tensor.shape, expected: shape },
      );
    }
    if (!types.includes(tensor.type)) {
      throw unsupported(`The tensor ${name} has the type ${tensor.type}; known for weights: ${types.join(", ")}.`, {
        tensor: name,
        type: tensor.type,
      });
    }
    this.used.add(name);
    return tensor as CheckpointTensor & { type: WeightType };
  }
}

function planTensor(rule: WeightRule, sources: PlannedSource[], type: PlainType | "auto"): PlannedTensor {
  const columns = rule.shape.at(-1) ?? 1;
  if (columns > MAX_COLUMNS) throw unsupported(`The tensor ${rule.name} has rows of ${columns} weights.`);
  const shape = rule.shape.toReversed();
  if (sources.length > 1) shape.push(sources.length);
  return {
    name: rule.name,
    type: rule.precise ? "F32" : type === "auto" ? kept(sources) : type,
    shape,
    sources,
    interleave: rule.interleave,
    add: rule.add,
  };
}

/** The type that loses nothing, where there is one: all numbers of 8 bits are numbers of F16. */
function kept(sources: readonly PlannedSource[]): OutputType {
  const types = new Set<OutputType>(
    sources.map((source) => {
      if (!("tensor" in source)) return exactType(source) ?? "F16";
      const { type } = source.tensor;
      return type === "F8_E4M3" || type === "F8_E5M2" ? "F16" : type;
    }),
  );
  const [only] = types;
  if (types.size === 1 && only !== undefined) return only;
  return sources.some((source) => !("tensor" in source)) ? "F16" : "F32";
}

const EXACT: Readonly<Record<string, string>> = {
  Q4_0: "keep their numbers, as Q4_0",
  Q4_1: "keep their numbers, as Q4_1, whose products of scales and zeros are rounded to 16 bits",
  Q8_0: "keep their numbers, as Q8_0",
};

function notesOn(tensors: readonly PlannedTensor[]): QuantizationNotes {
  const counts = { exact: new Map<string, number>(), rounded: new Map<string, number>() };
  for (const { type, sources } of tensors) {
    const packed = sources.filter((source): source is PackedMatrix => !("tensor" in source));
    const isScaled = sources.some((source) => "tensor" in source && source.scales !== undefined);
    if (packed.length === 0 && !isScaled) continue;
    const exact = packed.length > 0 ? EXACT[type] : undefined;
    const notExact = packed.find((matrix) => exactType(matrix) === undefined);
    const why = notExact ? `: ${whyNotExact(notExact)}` : "";
    const what = exact ?? (packed.length > 0 ? `become ${type}${why}` : `of 8 bits with scales become ${type}`);
    const count = exact === undefined ? counts.rounded : counts.exact;
    count.set(what, (count.get(what) ?? 0) + Math.max(packed.length, 1));
  }
  const texts = (count: Map<string, number>) => [...count].map(([what, matrices]) => `${matrices} matrices ${what}.`);
  return { exact: texts(counts.exact), rounded: texts(counts.rounded) };
}
