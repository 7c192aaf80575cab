// The linear layers of the model that an adapter is for: Hugging Face's names, GGUF's names, and shapes.

import { stat } from "node:fs/promises";
import { inspectGguf, type GgufInfo } from "../gguf/inspect-gguf.js";
import { invalidCheckpoint, unsupported } from "./errors.js";
import { weightsOf } from "./families/decoder.js";
import { readDecoder } from "./families/index.js";
import { readOptionalObject } from "./json.js";

export interface BaseLayer {
  /** GGUF's name of the matrix. */
  name: string;
  outputs: number;
  inputs: number;
  /** Rows of a head whose halves are interleaved; 0: none. */
  interleave: number;
}

export interface BaseModel {
  architecture: string;
  /** By names as `model.layers.0.self_attn.q_proj`. */
  layers: Map<string, BaseLayer>;
}

/** @param base a folder, of which config.json is enough, or a GGUF file */
export async function readBase(base: string): Promise<BaseModel> {
  const isFolder = (await stat(base).catch(() => undefined))?.isDirectory() ?? false;
  return isFolder ? readFolderBase(base) : toBase(await inspectGguf(base, { arrayLimit: 0 }));
}

async function readFolderBase(folder: string): Promise<BaseModel> {
  const config = await readOptionalObject(folder, "config.json");
  if (config === undefined) throw invalidCheckpoint(`${folder} has no config.json.`, { path: folder });
  const decoder = readDecoder(config);
  const layers = new Map<string, BaseLayer>();
  for (const { name, from, shape, interleave } of weightsOf(decoder)) {
    const [only, ...others] = from;
    const [outputs, inputs, ...more] = shape;
    // Neither vectors nor experts, which are stacked.
    if (only === undefined || others.length > 0 || inputs === undefined || more.length > 0) continue;
    if (name === "token_embd.weight" || !name.endsWith(".weight")) continue;
    layers.set(only.replace(/\.weight$/, ""), { name, outputs: outputs ?? 0, inputs, interleave });
  }
  return { architecture: decoder.architecture, layers };
}

/** What a decoder's layers are called in GGUF and in Hugging Face's classes of the families that are known. */
const NAMES: Readonly<Record<string, string>> = {
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
};
const ARCHITECTURES = ["llama", "qwen2", "qwen3", "qwen3moe", "gemma", "gemma2", "gemma3"];

function toBase({ metadata, tensors }: GgufInfo): BaseModel {
  const architecture = metadata["general.architecture"];
  if (typeof architecture !== "string" || !ARCHITECTURES.includes(architecture)) {
    throw unsupported(
      `The base model's architecture is ${JSON.stringify(architecture)}. Known for adapters: ${ARCHITECTURES.join(", ")}.`,
      { architecture },
    );
  }
  const number = (key: string) => Number(metadata[`${architecture}.${key}`] ?? NaN);
  const headWidth = number("attention.key_length") || number("embedding_length") / number("attention.head_count");
  const layers = new Map<string, BaseLayer>();
  for (const { name, shape } of tensors) {
    const [inputs = 0, outputs = 0] = shape;
    const [, layer, part = ""] = /^blk\.(\d+)\.(\w+)\.weight$/.exec(name) ?? [];
    const interleave = architecture === "llama" && (part === "attn_q" || part === "attn_k") ? headWidth : 0;
    const known = NAMES[part];
    if (known !== undefined) layers.set(`model.layers.${layer}.${known}`, { name, outputs, inputs, interleave });
    if (name === "output.weight") layers.set("lm_head", { name, outputs, inputs, interleave: 0 });
  }
  return { architecture, layers };
}
