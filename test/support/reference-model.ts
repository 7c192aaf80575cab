// The forward pass of decoder-only models, straight from the papers and in the layout of Hugging Face's checkpoints, in
// double precision and without any care for speed. Knows nothing of GGUF or llama.cpp.

import { valuesOf, type Tensors } from "./checkpoint.js";

export interface ReferenceModel {
  tensors: Tensors;
  layers: number;
  heads: number;
  keyValueHeads: number;
  headWidth: number;
  epsilon: number;
  /** By how much a pair turns from one position to the next. */
  angle: (pair: number, layer: number) => number;
  /** What sines and cosines are multiplied with. */
  angleScale?: number;
  tied: boolean;
  activation: "silu" | "gelu";
  /** Norms are stored less 1; the embedding is multiplied with the root of its width. */
  gemma?: boolean;
  /** Norms also behind attention and feed-forward network. */
  postNorms?: boolean;
  queryScale?: number;
  attentionCap?: number;
  finalCap?: number;
  /** How many tokens a layer sees. */
  window?: (layer: number) => number;
  /** What is added to what a layer gives. */
  directions?: ReadonlyMap<number, ArrayLike<number>>;
  experts?: { used: number; router: string; expert: (index: number) => [gate: string, up: string, down: string] };
}

type Vector = Float64Array;

/** Log-probabilities of the next token after each of `tokens`. */
export function referenceLogprobs(model: ReferenceModel, tokens: number[]): Vector[] {
  const weights = (name: string) => {
    const tensor = model.tensors.get(name);
    if (tensor === undefined) throw new Error(`there is no ${name}`);
    return { values: valuesOf(tensor), shape: tensor.shape };
  };
  const linear = (name: string, x: Vector): Vector => {
    const { values, shape } = weights(`${name}.weight`);
    const bias = model.tensors.get(`${name}.bias`);
    const offsets = bias && valuesOf(bias);
    const [rows, columns] = shape as [number, number];
    return Float64Array.from({ length: rows }, (_, row) => {
      let sum = offsets?.[row] ?? 0;
      for (let i = 0; i < columns; i++) sum += values[row * columns + i]! * x[i]!;
      return sum;
    });
  };
  // RMSNorm (Zhang and Sennrich 2019)
  const norm = (name: string, x: Vector): Vector => {
    const { values } = weights(`${name}.weight`);
    const mean = x.reduce((sum, value) => sum + value * value, 0) / x.length;
    return x.map((value, i) => (value / Math.sqrt(mean + model.epsilon)) * (values[i]! + (model.gemma ? 1 : 0)));
  };
  const activate = (x: number) =>
    model.activation === "silu"
      ? x / (1 + Math.exp(-x))
      : 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
  const gated = ([gate, up, down]: [string, string, string], x: Vector): Vector => {
    const factors = linear(up, x);
    return linear(
      down,
      linear(gate, x).map((value, i) => activate(value) * factors[i]!),
    );
  };
  const add = (a: Vector, b: Vector): Vector => a.map((value, i) => value + b[i]!);
  const cap = (value: number, at: number | undefined) => (at === undefined ? value : at * Math.tanh(value / at));

  const { heads, keyValueHeads, headWidth } = model;
  const split = (x: Vector): Vector[] =>
    Array.from({ length: x.length / headWidth }, (_, head) => x.slice(head * headWidth, (head + 1) * headWidth));
  const rotate = (x: Vector, position: number, layer: number): Vector => {
    const half = headWidth / 2;
    return x.map((value, i) => {
      const angle = position * model.angle(i % half, layer);
      const other = i < half ? -x[i + half]! : x[i - half]!;
      return (value * Math.cos(angle) + other * Math.sin(angle)) * (model.angleScale ?? 1);
    });
  };

  const embedding = weights("model.embed_tokens.weight");
  const width = embedding.shape[1]!;
  let hidden: Vector[] = tokens.map((token) =>
    Float64Array.from(embedding.values.slice(token * width, (token + 1) * width), (value) =>
      model.gemma ? value * Math.sqrt(width) : value,
    ),
  );
  for (let layer = 0; layer < model.layers; layer++) {
    const name = `model.layers.${layer}`;
    const inputs = hidden.map((x) => norm(`${name}.input_layernorm`, x));
    const project = (kind: "q" | "k", x: Vector, position: number) => {
      const heads = split(linear(`${name}.self_attn.${kind}_proj`, x));
      const hasNorm = model.tensors.has(`${name}.self_attn.${kind}_norm.weight`);
      return heads
        .map((head) => (hasNorm ? norm(`${name}.self_attn.${kind}_norm`, head) : head))
        .map((head) => rotate(head, position, layer));
    };
    const queries = inputs.map((x, position) => project("q", x, position));
    const keys = inputs.map((x, position) => project("k", x, position));
    const values = inputs.map((x) => split(linear(`${name}.self_attn.v_proj`, x)));
    const scale = model.queryScale ?? 1 / Math.sqrt(headWidth);
    const window = model.window?.(layer) ?? Infinity;

    hidden = hidden.map((x, position) => {
      const mixed = new Float64Array(heads * headWidth);
      for (let head = 0; head < heads; head++) {
        const shared = Math.floor(head / (heads / keyValueHeads));
        const first = Math.max(0, position - window + 1);
        const scores = Array.from({ length: position + 1 - first }, (_, i) => {
          const key = keys[first + i]![shared]!;
          const product = queries[position]![head]!.reduce((sum, value, j) => sum + value * key[j]!, 0);
          return cap(product * scale, model.attentionCap);
        });
        softmax(scores).forEach((share, i) => {
          values[first + i]![shared]!.forEach((value, j) => (mixed[head * headWidth + j]! += share * value));
        });
      }
      let attention = linear(`${name}.self_attn.o_proj`, mixed);
      if (model.postNorms) attention = norm(`${name}.post_attention_layernorm`, attention);
      const between = add(x, attention);
      const input = norm(`${name}.${model.postNorms ? "pre_feedforward" : "post_attention"}_layernorm`, between);
      let output = feedForward(name, input);
      if (model.postNorms) output = norm(`${name}.post_feedforward_layernorm`, output);
      const direction = model.directions?.get(layer);
      return add(between, output).map((value, i) => value + (direction?.[i] ?? 0));
    });
  }
  function feedForward(name: string, input: Vector): Vector {
    const { experts } = model;
    if (experts === undefined)
      return gated([`${name}.mlp.gate_proj`, `${name}.mlp.up_proj`, `${name}.mlp.down_proj`], input);
    const shares = softmax([...linear(`${name}.${experts.router}`, input)]).map((share, index) => ({ share, index }));
    const chosen = shares.sort((a, b) => b.share - a.share).slice(0, experts.used);
    const total = chosen.reduce((sum, { share }) => sum + share, 0);
    return chosen.reduce<Vector>((sum, { share, index }) => {
      const [gate, up, down] = experts.expert(index);
      const output = gated([`${name}.${gate}`, `${name}.${up}`, `${name}.${down}`], input);
      return add(
        sum,
        output.map((value) => (value * share) / total),
      );
    }, new Float64Array(width));
  }
  return hidden.map((x) => {
    const logits = linear(model.tied ? "model.embed_tokens" : "lm_head", norm("model.norm", x)).map((value) =>
      cap(value, model.finalCap),
    );
    const largest = Math.max(...logits);
    const log = largest + Math.log(logits.reduce((sum, value) => sum + Math.exp(value - largest), 0));
    return logits.map((value) => value - log);
  });
}

function softmax(scores: number[]): number[] {
  const largest = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}
