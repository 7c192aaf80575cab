// What the families have in common: a stack of layers of attention and a feed-forward network, each behind an RMSNorm.

import { unsupported } from "../errors.js";
import { float32, string, uint32, type Entry } from "../../gguf/encode.js";
import type { JsonObject } from "../json.js";
import type { Rope } from "../rope.js";

/** A model, as its weights and metadata are to be written. */
export interface Decoder {
  /** GGUF's name. */
  architecture: string;
  vocabularySize: number;
  contextLength: number;
  layers: number;
  width: number;
  feedForward: number;
  heads: number;
  keyValueHeads: number;
  headWidth: number;
  epsilon: number;
  rope: Rope;
  /** Beside what all have; keys without the architecture in front. */
  metadata?: Entry[];
  /** Logits come from the embedding's weights. */
  tied: boolean;
  biases?: { queryKeyValue?: boolean; attentionOutput?: boolean; feedForward?: boolean };
  /** A norm of each head's queries and keys. */
  queryKeyNorms?: boolean;
  /** Norms also behind attention and feed-forward network. */
  postNorms?: boolean;
  /** GGUF's architecture rotates neighbours, Hugging Face's halves. */
  interleave?: boolean;
  /** Norms are stored less 1. */
  normsLessOne?: boolean;
  experts?: { count: number; used: number; width: number; names: ExpertNames };
  /** Names that the checkpoint's tensors have in the place of "model.". */
  prefixes?: readonly string[];
  /** Tensors that are no part of the language model. */
  ignored?: RegExp;
}

/** Of layer `model.layers.N`. */
export interface ExpertNames {
  router: string;
  gate: (expert: number) => string;
  up: (expert: number) => string;
  down: (expert: number) => string;
}

export interface Family {
  /** In `architectures` of config.json. */
  names: readonly string[];
  read: (config: JsonObject) => Decoder;
}

/** How one tensor of the GGUF file comes from the checkpoint's. */
export interface WeightRule {
  name: string;
  /** Several are stacked, along a new slowest dimension. */
  from: string[];
  /** As in the checkpoint, of each of `from`: the slowest dimension first. */
  shape: number[];
  /** F32 whatever the matrices are: norms, biases, routers. */
  precise: boolean;
  interleave: number;
  add: number;
}

// llama.cpp's LLAMA_MAX_LAYERS and LLAMA_MAX_EXPERTS
const MAX_LAYERS = 512;
const MAX_EXPERTS = 1024;

/** How many experts there are, and how many a token goes through. */
export function readExpertCounts(config: JsonObject, countKey: string, usedFallback?: number) {
  const count = config.count(countKey);
  if (count > MAX_EXPERTS) throw config.wrong(countKey, `must be at most ${MAX_EXPERTS}`);
  const used = config.count("num_experts_per_tok", usedFallback);
  if (used > count) throw config.wrong("num_experts_per_tok", `must be at most ${count}, the number of experts`);
  return { count, used };
}

/** What all of the families read alike. Defaults are those of the families' classes in transformers. */
export function readCommon(
  config: JsonObject,
  defaults: { headWidth?: number; tied: boolean; activations: readonly string[]; activationKey?: string },
) {
  const width = config.count("hidden_size");
  const heads = config.count("num_attention_heads");
  const keyValueHeads = config.count("num_key_value_heads", heads);
  if (heads % keyValueHeads !== 0) throw config.wrong("num_key_value_heads", `must divide ${heads} heads`);
  if (config.get("head_dim") === undefined && defaults.headWidth === undefined && width % heads !== 0)
    throw config.wrong("num_attention_heads", `must divide hidden_size, ${width}`);
  const headWidth = config.count("head_dim", defaults.headWidth ?? width / heads);
  if (headWidth % 2 !== 0) throw config.wrong("head_dim", "must be even");
  if (config.count("num_hidden_layers") > MAX_LAYERS)
    throw config.wrong("num_hidden_layers", `must be at most ${MAX_LAYERS}`);
  checkActivation(config, defaults.activationKey ?? "hidden_act", defaults.activations);
  return {
    vocabularySize: config.count("vocab_size"),
    contextLength: config.count("max_position_embeddings"),
    layers: config.count("num_hidden_layers"),
    width,
    feedForward: config.count("intermediate_size"),
    heads,
    keyValueHeads,
    headWidth,
    epsilon: config.number("rms_norm_eps", 1e-6),
    tied: config.boolean("tie_word_embeddings", defaults.tied),
  };
}

function checkActivation(config: JsonObject, key: string, known: readonly string[]): void {
  const activation = config.string(key) ?? known[0];
  if (activation !== undefined && !known.includes(activation)) {
    throw unsupported(`The activation function is ${JSON.stringify(activation)}, and must be ${known.join(" or ")}.`, {
      activation,
    });
  }
}

export function metadataOf(decoder: Decoder): Entry[] {
  const { architecture, experts } = decoder;
  const entries: Entry[] = [
    uint32("vocab_size", decoder.vocabularySize),
    uint32("context_length", decoder.contextLength),
    uint32("embedding_length", decoder.width),
    uint32("block_count", decoder.layers),
    uint32("feed_forward_length", decoder.feedForward),
    uint32("attention.head_count", decoder.heads),
    uint32("attention.head_count_kv", decoder.keyValueHeads),
    uint32("attention.key_length", decoder.headWidth),
    uint32("attention.value_length", decoder.headWidth),
    float32("attention.layer_norm_rms_epsilon", decoder.epsilon),
    ...decoder.rope.metadata,
    ...(decoder.metadata ?? []),
  ];
  if (experts !== undefined) {
    entries.push(
      uint32("expert_count", experts.count),
      uint32("expert_used_count", experts.used),
      uint32("expert_feed_forward_length", experts.width),
    );
  }
  return [
    string("general.architecture", architecture),
    ...entries.map((entry) => ({ ...entry, key: `${architecture}.${entry.key}` })),
  ];
}

export function weightsOf(decoder: Decoder): WeightRule[] {
  const { width, feedForward, experts, biases = {} } = decoder;
  const queryWidth = decoder.heads * decoder.headWidth;
  const keyValueWidth = decoder.keyValueHeads * decoder.headWidth;
  const interleave = decoder.interleave ? decoder.headWidth : 0;
  const rules: WeightRule[] = [];
  const rule = (name: string, from: string | string[], shape: number[], rest: Partial<WeightRule> = {}) =>
    rules.push({ name, from: [from].flat(), shape, precise: shape.length === 1, interleave: 0, add: 0, ...rest });
  const norm = (name: string, from: string, length: number) =>
    rule(name, from, [length], { add: decoder.normsLessOne ? 1 : 0 });

  rule("token_embd.weight", "model.embed_tokens.weight", [decoder.vocabularySize, width]);
  norm("output_norm.weight", "model.norm.weight", width);
  if (!decoder.tied) rule("output.weight", "lm_head.weight", [decoder.vocabularySize, width]);
  for (let i = 0; i < decoder.layers; i++) {
    const [block, layer] = [`blk.${i}`, `model.layers.${i}`];
    const linear = (name: string, from: string, rows: number, columns: number, bias = false, heads = 0) => {
      rule(`${block}.${name}.weight`, `${layer}.${from}.weight`, [rows, columns], { interleave: heads });
      if (bias) rule(`${block}.${name}.bias`, `${layer}.${from}.bias`, [rows], { interleave: heads });
    };
    norm(`${block}.attn_norm.weight`, `${layer}.input_layernorm.weight`, width);
    linear("attn_q", "self_attn.q_proj", queryWidth, width, biases.queryKeyValue, interleave);
    linear("attn_k", "self_attn.k_proj", keyValueWidth, width, biases.queryKeyValue, interleave);
    linear("attn_v", "self_attn.v_proj", keyValueWidth, width, biases.queryKeyValue);
    linear("attn_output", "self_attn.o_proj", width, queryWidth, biases.attentionOutput);
    if (decoder.queryKeyNorms) {
      norm(`${block}.attn_q_norm.weight`, `${layer}.self_attn.q_norm.weight`, decoder.headWidth);
      norm(`${block}.attn_k_norm.weight`, `${layer}.self_attn.k_norm.weight`, decoder.headWidth);
    }
    if (decoder.postNorms) {
      norm(`${block}.post_attention_norm.weight`, `${layer}.post_attention_layernorm.weight`, width);
      norm(`${block}.ffn_norm.weight`, `${layer}.pre_feedforward_layernorm.weight`, width);
      norm(`${block}.post_ffw_norm.weight`, `${layer}.post_feedforward_layernorm.weight`, width);
    } else {
      norm(`${block}.ffn_norm.weight`, `${layer}.post_attention_layernorm.weight`, width);
    }
    if (experts === undefined) {
      linear("ffn_gate", "mlp.gate_proj", feedForward, width, biases.feedForward);
      linear("ffn_up", "mlp.up_proj", feedForward, width, biases.feedForward);
      linear("ffn_down", "mlp.down_proj", width, feedForward, biases.feedForward);
      continue;
    }
    const stack = (name: string, of: (expert: number) => string, rows: number, columns: number) => {
      const from = Array.from({ length: experts.count }, (_, expert) => `${layer}.${of(expert)}.weight`);
      rule(`${block}.${name}.weight`, from, [rows, columns]);
    };
    rule(`${block}.ffn_gate_inp.weight`, `${layer}.${experts.names.router}.weight`, [experts.count, width], {
      precise: true,
    });
    stack("ffn_gate_exps", experts.names.gate, experts.width, width);
    stack("ffn_up_exps", experts.names.up, experts.width, width);
    stack("ffn_down_exps", experts.names.down, width, experts.width);
  }
  return rules;
}

/**
 * llama.cpp's graph lets every token see all before it, where the model was trained with a window: the same as long as a
 * text is not longer than that.
 */
export function withinWindow(contextLength: number, window: number): number {
  return Math.min(contextLength, window);
}
