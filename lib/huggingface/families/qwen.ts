// Qwen2 and Qwen2.5 (arXiv:2407.10671), Qwen3 (arXiv:2505.09388).

import { unsupported } from "../errors.js";
import type { JsonObject } from "../json.js";
import { readRope } from "../rope.js";
import { readCommon, readExpertCounts, withinWindow, type Decoder, type Family } from "./decoder.js";

function read(config: JsonObject, headWidth?: number): Omit<Decoder, "architecture"> {
  const common = readCommon(config, { tied: false, activations: ["silu"], ...(headWidth ? { headWidth } : {}) });
  const rope = readRope(config, common);
  // Layers from max_window_layers on have the window.
  const hasWindow = config.boolean("use_sliding_window", false) && config.get("sliding_window") !== undefined;
  if (hasWindow && config.count("max_window_layers", 28) < common.layers)
    common.contextLength = withinWindow(common.contextLength, config.count("sliding_window"));
  return { ...common, rope };
}

export const qwen2: Family = {
  names: ["Qwen2ForCausalLM"],
  read: (config) => {
    const decoder = read(config);
    if (decoder.heads * decoder.headWidth !== decoder.width)
      throw unsupported(
        "The heads together are not as wide as the model (head_dim), which llama.cpp's Qwen2 has to be.",
      );
    return { ...decoder, architecture: "qwen2", biases: { queryKeyValue: true } };
  },
};

export const qwen3: Family = {
  names: ["Qwen3ForCausalLM"],
  read: (config) => ({ ...readThird(config), architecture: "qwen3" }),
};

export const qwen3moe: Family = {
  names: ["Qwen3MoeForCausalLM"],
  read: (config) => {
    const decoder = readThird(config);
    const counts = readExpertCounts(
      config,
      config.get("num_experts") === undefined ? "num_local_experts" : "num_experts",
    );
    // llama.cpp's graph has experts in every layer, and makes the weights of those chosen sum up to 1.
    if (config.count("decoder_sparse_step", 1) !== 1 || (config.array("mlp_only_layers") ?? []).length > 0) {
      throw unsupported("Some layers of this mixture of experts have none (decoder_sparse_step, mlp_only_layers).");
    }
    if (!config.boolean("norm_topk_prob", false)) {
      throw unsupported("The weights of the chosen experts do not sum up to 1 (norm_topk_prob is false).");
    }
    const expert = (part: string) => (index: number) => `mlp.experts.${index}.${part}_proj`;
    const names = { router: "mlp.gate", gate: expert("gate"), up: expert("up"), down: expert("down") };
    return {
      ...decoder,
      architecture: "qwen3moe",
      experts: { ...counts, width: config.count("moe_intermediate_size"), names },
    };
  },
};

function readThird(config: JsonObject): Omit<Decoder, "architecture"> {
  if (config.boolean("attention_bias", false))
    throw unsupported("The attention has biases (attention_bias), which llama.cpp's Qwen3 has not.");
  return { ...read(config, 128), queryKeyNorms: true };
}
