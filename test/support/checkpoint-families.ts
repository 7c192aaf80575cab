// One small random checkpoint for each family, and what its forward pass is.

import { f32, randomNumbers, type Tensors } from "./checkpoint.js";
import type { ReferenceModel } from "./reference-model.js";

export interface TestFamily {
  config: Record<string, unknown>;
  reference: ReferenceModel;
}

const [VOCABULARY, WIDTH, LAYERS, HEADS, KV_HEADS, FEED_FORWARD] = [384, 32, 2, 4, 2, 48];
export const VOCABULARY_SIZE = VOCABULARY;

interface Parts {
  headWidth?: number;
  tied?: boolean;
  biases?: readonly string[];
  queryKeyNorms?: boolean;
  postNorms?: boolean;
  /** Around which value norms are. */
  norm?: number;
  layers?: number;
  experts?: (layer: string) => [name: string, shape: number[]][];
}

function randomTensors(parts: Parts): Tensors {
  const random = randomNumbers(42);
  const { headWidth = WIDTH / HEADS, norm = 1, biases = [], layers = LAYERS } = parts;
  const tensors: Tensors = new Map();
  const matrix = (name: string, rows: number, columns: number) => {
    tensors.set(
      `${name}.weight`,
      f32([rows, columns], () => random() * Math.sqrt(3 / columns)),
    );
    if (biases.some((part) => name.endsWith(part)))
      tensors.set(
        `${name}.bias`,
        f32([rows], () => 0.3 * random()),
      );
  };
  const vector = (name: string, length: number) => {
    tensors.set(
      `${name}.weight`,
      f32([length], () => norm + 0.3 * random()),
    );
  };
  tensors.set(
    "model.embed_tokens.weight",
    f32([VOCABULARY, WIDTH], () => random()),
  );
  vector("model.norm", WIDTH);
  if (!parts.tied) matrix("lm_head", VOCABULARY, WIDTH);
  for (let i = 0; i < layers; i++) {
    const layer = `model.layers.${i}`;
    for (const name of ["input", "post_attention", ...(parts.postNorms ? ["pre_feedforward", "post_feedforward"] : [])])
      vector(`${layer}.${name}_layernorm`, WIDTH);
    matrix(`${layer}.self_attn.q_proj`, HEADS * headWidth, WIDTH);
    matrix(`${layer}.self_attn.k_proj`, KV_HEADS * headWidth, WIDTH);
    matrix(`${layer}.self_attn.v_proj`, KV_HEADS * headWidth, WIDTH);
    matrix(`${layer}.self_attn.o_proj`, WIDTH, HEADS * headWidth);
    if (parts.queryKeyNorms) for (const name of ["q", "k"]) vector(`${layer}.self_attn.${name}_norm`, headWidth);
    if (parts.experts) {
      for (const [name, [rows, columns]] of parts.experts(layer)) matrix(name, rows!, columns!);
    } else {
      matrix(`${layer}.mlp.gate_proj`, FEED_FORWARD, WIDTH);
      matrix(`${layer}.mlp.up_proj`, FEED_FORWARD, WIDTH);
      matrix(`${layer}.mlp.down_proj`, WIDTH, FEED_FORWARD);
    }
  }
  return tensors;
}

const COMMON_CONFIG = {
  vocab_size: VOCABULARY,
  hidden_size: WIDTH,
  intermediate_size: FEED_FORWARD,
  num_hidden_layers: LAYERS,
  num_attention_heads: HEADS,
  num_key_value_heads: KV_HEADS,
  max_position_embeddings: 256,
  rms_norm_eps: 1e-5,
  torch_dtype: "float32",
};

/** The angles of the paper: theta^(-2 i / d). */
export const plainAngle =
  (theta: number, headWidth: number) =>
  (pair: number): number =>
    theta ** ((-2 * pair) / headWidth);

function reference(parts: Parts, rest: Partial<ReferenceModel> = {}): ReferenceModel {
  const headWidth = parts.headWidth ?? WIDTH / HEADS;
  return {
    tensors: randomTensors(parts),
    layers: parts.layers ?? LAYERS,
    heads: HEADS,
    keyValueHeads: KV_HEADS,
    headWidth,
    epsilon: 1e-5,
    angle: plainAngle(10_000, headWidth),
    tied: parts.tied ?? false,
    activation: "silu",
    ...rest,
  };
}

/** What Llama 3.1's modeling code does to the angles. */
function llama3Angle(theta: number, headWidth: number, [factor, low, high, trained]: [number, number, number, number]) {
  return (pair: number): number => {
    const angle = plainAngle(theta, headWidth)(pair);
    const wavelength = (2 * Math.PI) / angle;
    if (wavelength < trained / high) return angle;
    if (wavelength > trained / low) return angle / factor;
    const smooth = (trained / wavelength - low) / (high - low);
    return (1 - smooth) * (angle / factor) + smooth * angle;
  };
}

/** YaRN (Peng et al. 2023, arXiv:2309.00071), with its usual 32 and 1. */
function yarnAngle(theta: number, headWidth: number, factor: number, trained: number) {
  const pairOf = (rotations: number) =>
    (headWidth * Math.log(trained / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
  const low = Math.max(Math.floor(pairOf(32)), 0);
  const high = Math.min(Math.ceil(pairOf(1)), headWidth - 1);
  return (pair: number): number => {
    const angle = plainAngle(theta, headWidth)(pair);
    const ramp = Math.min(1, Math.max(0, (pair - low) / Math.max(high - low, 0.001)));
    return (angle / factor) * ramp + angle * (1 - ramp);
  };
}

const QWEN_BIASES = ["q_proj", "k_proj", "v_proj"];
const [EXPERTS, USED, EXPERT_WIDTH] = [6, 2, 24];
const THETA = 500_000;

export const FAMILIES: Record<string, () => TestFamily> = {
  llama: () => ({
    config: { ...COMMON_CONFIG, architectures: ["LlamaForCausalLM"], hidden_act: "silu", rope_theta: 10_000 },
    reference: reference({}),
  }),
  "llama with Llama 3's angles, biases and shared weights": () => ({
    config: {
      ...COMMON_CONFIG,
      architectures: ["LlamaForCausalLM"],
      hidden_act: "silu",
      rope_theta: THETA,
      head_dim: 16,
      attention_bias: true,
      mlp_bias: true,
      tie_word_embeddings: true,
      rope_scaling: {
        rope_type: "llama3",
        factor: 8,
        low_freq_factor: 1,
        high_freq_factor: 4,
        original_max_position_embeddings: 64,
      },
    },
    reference: reference(
      { headWidth: 16, tied: true, biases: ["_proj"] },
      { angle: llama3Angle(THETA, 16, [8, 1, 4, 64]) },
    ),
  }),
  "llama with linear scaling": () => ({
    config: {
      ...COMMON_CONFIG,
      architectures: ["LlamaForCausalLM"],
      rope_parameters: { rope_type: "linear", factor: 4, rope_theta: 10_000 },
    },
    reference: reference({}, { angle: (pair) => plainAngle(10_000, WIDTH / HEADS)(pair) / 4 }),
  }),
  mistral: () => ({
    config: { ...COMMON_CONFIG, architectures: ["MistralForCausalLM"], hidden_act: "silu", head_dim: 16 },
    reference: reference({ headWidth: 16 }),
  }),
  mixtral: () => ({
    config: {
      ...COMMON_CONFIG,
      architectures: ["MixtralForCausalLM"],
      num_local_experts: EXPERTS,
      num_experts_per_tok: USED,
      sliding_window: null,
    },
    reference: reference(
      {
        experts: (layer) => [
          [`${layer}.block_sparse_moe.gate`, [EXPERTS, WIDTH]],
          ...Array.from({ length: EXPERTS }, (_, i) => `${layer}.block_sparse_moe.experts.${i}`).flatMap(
            (name): [string, number[]][] => [
              [`${name}.w1`, [FEED_FORWARD, WIDTH]],
              [`${name}.w2`, [WIDTH, FEED_FORWARD]],
              [`${name}.w3`, [FEED_FORWARD, WIDTH]],
            ],
          ),
        ],
      },
      {
        experts: {
          used: USED,
          router: "block_sparse_moe.gate",
          expert: (i) =>
            ["w1", "w3", "w2"].map((w) => `block_sparse_moe.experts.${i}.${w}`) as [string, string, string],
        },
      },
    ),
  }),
  qwen2: () => ({
    config: { ...COMMON_CONFIG, architectures: ["Qwen2ForCausalLM"], hidden_act: "silu", rope_theta: 1e6 },
    reference: reference({ biases: QWEN_BIASES }, { angle: plainAngle(1e6, WIDTH / HEADS) }),
  }),
  "qwen3 with YaRN": () => ({
    config: {
      ...COMMON_CONFIG,
      architectures: ["Qwen3ForCausalLM"],
      head_dim: 16,
      rope_theta: 100,
      rope_scaling: { type: "yarn", factor: 4, original_max_position_embeddings: 64 },
    },
    reference: reference(
      { headWidth: 16, queryKeyNorms: true },
      { angle: yarnAngle(100, 16, 4, 64), angleScale: 0.1 * Math.log(4) + 1 },
    ),
  }),
  qwen3: () => ({
    config: { ...COMMON_CONFIG, architectures: ["Qwen3ForCausalLM"], head_dim: 16, tie_word_embeddings: true },
    reference: reference({ headWidth: 16, tied: true, queryKeyNorms: true }),
  }),
  qwen3moe: () => ({
    config: {
      ...COMMON_CONFIG,
      architectures: ["Qwen3MoeForCausalLM"],
      head_dim: 16,
      num_experts: EXPERTS,
      num_experts_per_tok: USED,
      moe_intermediate_size: EXPERT_WIDTH,
      norm_topk_prob: true,
      decoder_sparse_step: 1,
      mlp_only_layers: [],
    },
    reference: reference(
      {
        headWidth: 16,
        queryKeyNorms: true,
        experts: (layer) => [
          [`${layer}.mlp.gate`, [EXPERTS, WIDTH]],
          ...Array.from({ length: EXPERTS }, (_, i) => `${layer}.mlp.experts.${i}`).flatMap(
            (name): [string, number[]][] => [
              [`${name}.gate_proj`, [EXPERT_WIDTH, WIDTH]],
              [`${name}.up_proj`, [EXPERT_WIDTH, WIDTH]],
              [`${name}.down_proj`, [WIDTH, EXPERT_WIDTH]],
            ],
          ),
        ],
      },
      {
        experts: {
          used: USED,
          router: "mlp.gate",
          expert: (i) => ["gate", "up", "down"].map((p) => `mlp.experts.${i}.${p}_proj`) as [string, string, string],
        },
      },
    ),
  }),
  gemma: () => ({
    config: { ...COMMON_CONFIG, architectures: ["GemmaForCausalLM"], head_dim: 16, hidden_act: "gelu" },
    reference: reference({ headWidth: 16, tied: true, norm: 0 }, { activation: "gelu", gemma: true }),
  }),
  gemma2: () => ({
    config: {
      ...COMMON_CONFIG,
      architectures: ["Gemma2ForCausalLM"],
      num_hidden_layers: 4,
      head_dim: 16,
      hidden_activation: "gelu_pytorch_tanh",
      query_pre_attn_scalar: 16,
      sliding_window: 8,
      attn_logit_softcapping: 5,
      final_logit_softcapping: 3,
    },
    reference: reference(
      { headWidth: 16, tied: true, norm: 0, postNorms: true, layers: 4 },
      {
        activation: "gelu",
        gemma: true,
        postNorms: true,
        attentionCap: 5,
        finalCap: 3,
        window: (layer) => (layer % 2 === 0 ? 8 : Infinity),
      },
    ),
  }),
  gemma3: () => ({
    config: {
      ...COMMON_CONFIG,
      architectures: ["Gemma3ForCausalLM"],
      num_hidden_layers: 6,
      head_dim: 16,
      hidden_activation: "gelu_pytorch_tanh",
      query_pre_attn_scalar: 16,
      sliding_window: 8,
      sliding_window_pattern: 3,
      rope_theta: 1e6,
      rope_local_base_freq: 500,
      rope_scaling: { rope_type: "linear", factor: 8 },
    },
    reference: reference(
      { headWidth: 16, tied: true, norm: 0, postNorms: true, queryKeyNorms: true, layers: 6 },
      {
        activation: "gelu",
        gemma: true,
        postNorms: true,
        window: (layer) => ((layer + 1) % 3 === 0 ? Infinity : 8),
        angle: (pair, layer) => ((layer + 1) % 3 === 0 ? plainAngle(1e6, 16)(pair) / 8 : plainAngle(500, 16)(pair)),
      },
    ),
  }),
};
