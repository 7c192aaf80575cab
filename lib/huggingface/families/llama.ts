// Llama (Touvron et al. 2023, arXiv:2302.13971; Llama 3, arXiv:2407.21783), Mistral (arXiv:2310.06825), Mixtral
// (arXiv:2401.04088). GGUF knows all of them as "llama".

import { readRope } from "../rope.js";
import { readCommon, readExpertCounts, withinWindow, type Family } from "./decoder.js";

export const llama: Family = {
  names: ["LlamaForCausalLM"],
  read: (config) => {
    const common = readCommon(config, { tied: false, activations: ["silu"] });
    const attention = config.boolean("attention_bias", false);
    return {
      ...common,
      architecture: "llama",
      rope: readRope(config, { ...common, others: ["llama3"] }),
      biases: { queryKeyValue: attention, attentionOutput: attention, feedForward: config.boolean("mlp_bias", false) },
      interleave: true,
    };
  },
};

export const mistral: Family = {
  names: ["MistralForCausalLM", "MixtralForCausalLM"],
  read: (config) => {
    const common = readCommon(config, { tied: false, activations: ["silu"] });
    const rope = readRope(config, common);
    if (config.get("sliding_window") !== undefined)
      common.contextLength = withinWindow(common.contextLength, config.count("sliding_window"));
    const decoder = { ...common, architecture: "llama", rope, interleave: true };
    if (config.get("num_local_experts") === undefined) return decoder;
    const names = {
      router: "block_sparse_moe.gate",
      gate: (expert: number) => `block_sparse_moe.experts.${expert}.w1`,
      up: (expert: number) => `block_sparse_moe.experts.${expert}.w3`,
      down: (expert: number) => `block_sparse_moe.experts.${expert}.w2`,
    };
    const counts = readExpertCounts(config, "num_local_experts", 2);
    return { ...decoder, experts: { ...counts, width: common.feedForward, names } };
  },
};
