// Which tensors of the checkpoint become which of the GGUF file.

import type { WeightType } from "../native.js";
import { invalidCheckpoint, unsupported } from "./errors.js";
import type { Decoder, WeightRule } from "./families/decoder.js";
import { weightsOf } from "./families/decoder.js";
import type { OutputType, TensorInfo } from "../gguf/encode.js";
import type { CheckpointTensor } from "./safetensors.js";

/** A tensor of the GGUF file, and where its weights are (native/weights/checkpoint.h). */
export interface PlannedTensor extends TensorInfo {
  /** One after the other. */
  sources: (CheckpointTensor & { type: WeightType })[];
  /** What it is, when it is in no file. */
  values?: Float32Array;
  interleave: number;
  add: number;
}

const READABLE: readonly string[] = ["F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"] satisfies WeightType[];
/** The widest row of any known model has 2^18 weights; a row is held in memory. */
const MAX_COLUMNS = 2 ** 22;

export function planWeights(
  decoder: Decoder,
  checkpoint: ReadonlyMap<string, CheckpointTensor>,
  type: OutputType | "auto",
): PlannedTensor[] {
  const rename = renamer(decoder, checkpoint);
  const used = new Set<string>();
  const tensors: PlannedTensor[] = weightsOf(decoder).map((rule) => {
    const sources = rule.from.map((name) => {
      const tensor = find(checkpoint, rename(name), rule.shape);
      used.add(tensor.name);
      return tensor;
    });
    return planTensor(rule, sources, type);
  });
  const { factors } = decoder.rope;
  if (factors)
    tensors.splice(2, 0, {
      name: "rope_freqs.weight",
      type: "F32",
      shape: [factors.length],
      sources: [],
      values: factors,
      interleave: 0,
      add: 0,
    });
  for (const name of checkpoint.keys()) {
    if (used.has(name) || decoder.ignored?.test(name) || isIdle(name, decoder)) continue;
    throw unsupported(`The tensor ${name} is not known for ${decoder.architecture}.`, { tensor: name });
  }
  return tensors;
}

/** Tensors that say nothing: angles that are computed, a copy of shared weights. */
function isIdle(name: string, decoder: Decoder): boolean {
  return name.endsWith(".rotary_emb.inv_freq") || (decoder.tied && name.endsWith("lm_head.weight"));
}

function renamer({ prefixes = [] }: Decoder, checkpoint: ReadonlyMap<string, unknown>): (name: string) => string {
  const prefix = prefixes.find((candidate) => checkpoint.has(`${candidate}embed_tokens.weight`)) ?? "model.";
  return (name) => name.replace(/^model\./, prefix);
}

function find(
  checkpoint: ReadonlyMap<string, CheckpointTensor>,
  name: string,
  shape: readonly number[],
): PlannedTensor["sources"][number] {
  const tensor = checkpoint.get(name);
  if (tensor === undefined) throw invalidCheckpoint(`The checkpoint has no tensor ${name}.`, { tensor: name });
  if (tensor.shape.join() !== shape.join()) {
    throw invalidCheckpoint(
      `The tensor ${name} has the shape [${tensor.shape.join(", ")}], and config.json asks for [${shape.join(", ")}].`,
      { tensor: name, shape: tensor.shape, expected: shape },
    );
  }
  if (!READABLE.includes(tensor.type)) {
    throw unsupported(`The tensor ${name} has the type ${tensor.type}; known for weights: ${READABLE.join(", ")}.`, {
      tensor: name,
      type: tensor.type,
    });
  }
  return tensor as PlannedTensor["sources"][number];
}

function planTensor(rule: WeightRule, sources: PlannedTensor["sources"], type: OutputType | "auto"): PlannedTensor {
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

/** The type that loses nothing: all numbers of 8 bits are numbers of F16. */
function kept(sources: PlannedTensor["sources"]): OutputType {
  const types = new Set(sources.map(({ type }) => (type.startsWith("F8") ? "F16" : (type as OutputType))));
  const [only] = types;
  return types.size === 1 && only !== undefined ? only : "F32";
}
