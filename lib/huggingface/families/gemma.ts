// Gemma (arXiv:2403.08295), Gemma 2 (arXiv:2408.00118), Gemma 3 (arXiv:2503.19786).

import { unsupported } from "../errors.js";
import { float32, uint32, type Entry } from "../../gguf/encode.js";
import { JsonObject, type Json } from "../json.js";
import { readRope, ropeParameters } from "../rope.js";
import { readCommon, type Decoder, type Family } from "./decoder.js";

function read(config: JsonObject, activationKey: string): ReturnType<typeof readCommon> {
  const common = readCommon(config, {
    headWidth: 256,
    tied: true,
    // Gemma 1 says "gelu" and means its approximation by tanh.
    activations: activationKey === "hidden_act" ? ["gelu_pytorch_tanh", "gelu"] : ["gelu_pytorch_tanh"],
    activationKey,
  });
  if (!common.tied)
    throw unsupported("Output and embedding do not share their weights (tie_word_embeddings is false).");
  if (config.boolean("attention_bias", false))
    throw unsupported("The attention has biases (attention_bias), which llama.cpp's Gemma has not.");
  return common;
}

export const gemma: Family = {
  names: ["GemmaForCausalLM"],
  read: (config) => {
    const key = config.get("hidden_activation") === undefined ? "hidden_act" : "hidden_activation";
    const common = read(config, key);
    return { ...common, architecture: "gemma", rope: readRope(config, common), normsLessOne: true };
  },
};

export const gemma2: Family = {
  names: ["Gemma2ForCausalLM"],
  read: (config) => {
    const common = read(config, "hidden_activation");
    checkQueryScale(config, common, 46);
    checkLayerTypes(config, common.layers, 2);
    const metadata = [uint32("attention.sliding_window", config.count("sliding_window", 4096))];
    // 0 would be a cap of its own in llama.cpp's graph of Gemma 2.
    for (const [key, name] of [
      ["attn_logit_softcapping", "attn_logit_softcapping"],
      ["final_logit_softcapping", "final_logit_softcapping"],
    ] as const) {
      const cap = config.number(key, 0);
      if (!(cap > 0)) throw unsupported(`There is no ${key}, which llama.cpp's Gemma 2 always has.`, { key });
      metadata.push(float32(name, cap));
    }
    return { ...common, architecture: "gemma2", rope: readRope(config, common), metadata, ...SANDWICH };
  },
};

export const gemma3: Family = {
  names: ["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
  read: (outer) => {
    const config = textConfig(outer);
    const common = read(config, "hidden_activation");
    checkQueryScale(config, common, 62);
    const cap = config.number("attn_logit_softcapping", 0);
    if (cap !== 0)
      throw unsupported(`The attention's logits are capped at ${cap}, which llama.cpp's Gemma 3 does not do.`);
    const period = config.count("sliding_window_pattern", config.count("_sliding_window_pattern", 6));
    checkLayerTypes(config, common.layers, period);
    // Layers with a window have angles of their own, which are never scaled.
    const parameters = ropeParameters(config);
    const local = parameters.object("sliding_attention");
    if ((local?.string("rope_type") ?? "default") !== "default")
      throw unsupported("The rotary embeddings of layers with a window are scaled.");
    const full = parameters.object("full_attention") ?? parameters;
    const withTheta = new JsonObject({ rope_theta: 1e6, ...raw(config) }, config.where);
    const metadata: Entry[] = [
      uint32("attention.sliding_window", config.count("sliding_window", 4096)),
      uint32("attention.sliding_window_pattern", period),
      float32("rope.freq_base_swa", local?.number("rope_theta") ?? config.number("rope_local_base_freq", 10_000)),
    ];
    const finalCap = config.number("final_logit_softcapping", 0);
    if (finalCap > 0) metadata.push(float32("final_logit_softcapping", finalCap));
    return {
      ...common,
      architecture: "gemma3",
      rope: readRope(withTheta, common, full),
      metadata,
      queryKeyNorms: true,
      prefixes: ["model.", "language_model.model.", "model.language_model."],
      ignored: /^(model\.)?(vision_tower|multi_modal_projector)\./,
      ...SANDWICH,
    };
  },
};

const SANDWICH = { normsLessOne: true, postNorms: true } satisfies Partial<Decoder>;

/** The language model's part. What Google's own files leave out is what the class has for it. */
function textConfig(config: JsonObject): JsonObject {
  const text = config.object("text_config");
  if (text === undefined) return config;
  const defaults = {
    num_attention_heads: 8,
    num_key_value_heads: 4,
    max_position_embeddings: 131_072,
    vocab_size: 262_208,
  };
  return new JsonObject({ ...defaults, ...raw(text) }, text.where);
}

function raw(config: JsonObject): Record<string, Json> {
  return Object.fromEntries(config.keys().map((key) => [key, config.get(key) ?? null]));
}

/** llama.cpp knows the scale of queries by the number of layers. */
function checkQueryScale(config: JsonObject, common: ReturnType<typeof readCommon>, largest: number): void {
  const expected = common.layers === largest ? Math.floor(common.width / common.heads) : common.headWidth;
  const given = config.number("query_pre_attn_scalar", 256);
  if (given !== expected) {
    throw unsupported(`query_pre_attn_scalar is ${given}; with ${common.layers} layers, llama.cpp has ${expected}.`, {
      given,
      expected,
    });
  }
}

/** Every `period`-th layer sees all, the others have a window. */
function checkLayerTypes(config: JsonObject, layers: number, period: number): void {
  const types = config.array("layer_types");
  if (types === undefined) return;
  for (let i = 0; i < layers; i++) {
    const expected = (i + 1) % period === 0 ? "full_attention" : "sliding_attention";
    if (types[i] !== expected) {
      throw unsupported(`Layer ${i} has the type ${JSON.stringify(types[i])}, and llama.cpp has ${expected} there.`, {
        layer: i,
        type: types[i],
      });
    }
  }
}
