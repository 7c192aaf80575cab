// Rotary position embeddings (Su et al. 2021, arXiv:2104.09864) and how they are scaled to longer texts.

import { unsupported } from "./errors.js";
import { float32, string, uint32, type Entry } from "../gguf/encode.js";
import { JsonObject } from "./json.js";

export interface Rope {
  /** Keys without the architecture in front. */
  metadata: Entry[];
  /** What the frequency of each pair is divided by, where it is not the same for all. */
  factors?: Float32Array;
}

export interface RopeContext {
  /** Rotated elements of a head. */
  headWidth: number;
  contextLength: number;
  /** Scaling types that the family's graph in llama.cpp knows beside "default", "linear" and "yarn". */
  others?: readonly "llama3"[];
}

/** What each type may say beside its name and rope_theta. Anything else is refused: it would change the angles. */
const KEYS: Readonly<Record<string, readonly string[]>> = {
  default: [],
  linear: ["factor"],
  yarn: ["factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor"],
  llama3: ["factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"],
};
const COMMON = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];

/** Where config.json says how positions are scaled: rope_parameters since transformers 5, rope_scaling before. */
export function ropeParameters(config: JsonObject): JsonObject {
  return (
    config.object("rope_parameters") ??
    config.object("rope_scaling") ??
    new JsonObject({}, `rope_scaling of ${config.where}`)
  );
}

export function readRope(
  config: JsonObject,
  { headWidth, contextLength, others = [] }: RopeContext,
  parameters = ropeParameters(config),
): Rope {
  const type = parameters.string("rope_type") ?? parameters.string("type") ?? "default";
  const known = ["default", "linear", "yarn", ...others];
  if (!known.includes(type)) {
    throw unsupported(
      `The rotary embeddings are scaled by the type ${JSON.stringify(type)}; known for this architecture: ${known.join(", ")}.`,
      { ropeType: type },
    );
  }
  for (const key of parameters.keys()) {
    if (COMMON.includes(key) || KEYS[type]?.includes(key) || parameters.get(key) === undefined) continue;
    throw unsupported(`The rotary embeddings of the type ${type} have the setting ${key}, which is not known.`, {
      ropeType: type,
      key,
    });
  }
  for (const place of [config, parameters]) {
    const share = place.number("partial_rotary_factor", 1);
    if (share !== 1)
      throw unsupported(`Only a part of each head is rotated (partial_rotary_factor ${share}).`, { share });
  }
  const theta = positive(parameters, "rope_theta", config.number("rope_theta", 10_000));
  const metadata = [float32("rope.freq_base", theta), uint32("rope.dimension_count", headWidth)];
  if (type === "default") return { metadata };
  const factor = positive(parameters, "factor");
  if (type === "linear")
    return { metadata: [...metadata, string("rope.scaling.type", "linear"), float32("rope.scaling.factor", factor)] };
  const trained = parameters.count(
    "original_max_position_embeddings",
    config.count("original_max_position_embeddings", contextLength),
  );
  if (type === "llama3") return { metadata, factors: llama3Factors(parameters, factor, trained, theta, headWidth) };
  // llama.cpp multiplies with this itself (ggml's rope_yarn).
  const attention = 0.1 * Math.log(factor) + 1;
  const given = parameters.number("attention_factor", attention);
  if (Math.abs(given - attention) > 1e-3) {
    throw unsupported(
      `The rotary embeddings of the type yarn have an attention_factor of ${given}; only the usual one is known, ${attention}.`,
      { ropeType: type, attentionFactor: given },
    );
  }
  return {
    metadata: [
      ...metadata,
      string("rope.scaling.type", "yarn"),
      float32("rope.scaling.factor", factor),
      uint32("rope.scaling.original_context_length", trained),
      float32("rope.scaling.yarn_beta_fast", positive(parameters, "beta_fast", 32)),
      float32("rope.scaling.yarn_beta_slow", positive(parameters, "beta_slow", 1)),
    ],
  };
}

function positive(parameters: JsonObject, name: string, fallback?: number): number {
  const value = parameters.number(name, fallback);
  if (!(value > 0)) throw parameters.wrong(name, "must be above 0");
  return value;
}

/** Llama 3.1: long waves are stretched, short ones are not, those between in part. */
function llama3Factors(
  parameters: JsonObject,
  factor: number,
  trained: number,
  theta: number,
  headWidth: number,
): Float32Array {
  const low = positive(parameters, "low_freq_factor");
  const high = positive(parameters, "high_freq_factor");
  if (high <= low) throw parameters.wrong("high_freq_factor", `must be above low_freq_factor, ${low}`);
  return Float32Array.from({ length: headWidth / 2 }, (_, pair) => {
    const wavelength = 2 * Math.PI * theta ** ((2 * pair) / headWidth);
    const smooth = Math.min(1, Math.max(0, (trained / wavelength - low) / (high - low)));
    return 1 / ((1 - smooth) / factor + smooth);
  });
}
