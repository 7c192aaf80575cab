// Makes the models that benches run on, in bench/models/: random weights of real shapes, so that speed is real and text
// is noise. Nothing is downloaded. Existing files are kept.
//
//   npx tsx bench/models.ts [NAME …]

import { existsSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { MINI_LM, randomEncoder, type EncoderShape } from "../test/support/embedding-model.js";
import { BF16, F16, Q4_0, randomAdapter, randomModel, type Shape } from "../test/support/random-model.js";
import { copying } from "./copying-model.js";

export const SHAPES = {
  /** 4.3 M parameters, nearly all of them embeddings and output. */
  "4m-f16": { type: F16, vocabulary: 32_000, width: 64, feedForward: 192, layers: 4, heads: 4, keyValueHeads: 4, contextLength: 40_960, tied: false },
  /** 124 M parameters, the shape of a small real model; 4-bit weights. */
  "125m-q4_0": { type: Q4_0, vocabulary: 32_000, width: 768, feedForward: 2560, layers: 12, heads: 12, keyValueHeads: 12, contextLength: 40_960, tied: true },
  /** 20 M parameters under a vocabulary as large as Qwen's: what choosing a token costs. */
  "152k-vocabulary-f16": { type: F16, vocabulary: 151_936, width: 128, feedForward: 384, layers: 4, heads: 4, keyValueHeads: 4, contextLength: 4096, tied: true },
} as const satisfies Record<string, Shape>; // prettier-ignore

/** Large enough to see what loading costs; made only when asked for by name. */
export const LARGE = {
  /** 2.7 B parameters, 1.5 GB: weights that some CPUs rearrange while loading. */
  "2.7b-q4_0": { type: Q4_0, vocabulary: 32_000, width: 2560, feedForward: 8960, layers: 28, heads: 20, keyValueHeads: 20, contextLength: 4096, tied: true },
  /** 0.7 B parameters, 1.4 GB: the same, where there are matrix extensions. */
  "0.7b-f16": { type: F16, vocabulary: 32_000, width: 1536, feedForward: 4608, layers: 22, heads: 16, keyValueHeads: 16, contextLength: 4096, tied: true },
  /** As large: weights that are used as they lie in the file. */
  "0.7b-bf16": { type: BF16, vocabulary: 32_000, width: 1536, feedForward: 4608, layers: 22, heads: 16, keyValueHeads: 16, contextLength: 4096, tied: true },
} as const satisfies Record<string, Shape>; // prettier-ignore

/** Encoders for embeddings. */
const ENCODERS = {
  /** 23 M parameters, the shape of all-MiniLM-L6-v2. */
  "minilm-f16": { ...MINI_LM, type: F16 },
} as const satisfies Record<string, EncoderShape>;

/** Models that go on with what the prompt repeats, and what they are otherwise like. */
const COPYING = {
  "4m-f16-copying": SHAPES["4m-f16"],
  "125m-q4_0-copying": { ...SHAPES["125m-q4_0"], tied: false },
} as const satisfies Record<string, Shape>;

/** LoRA adapters of rank 16 for queries and values. */
const ADAPTERS = {
  "4m-f16-lora-1": { of: "4m-f16", seed: 1 },
  "4m-f16-lora-2": { of: "4m-f16", seed: 2 },
  "125m-q4_0-lora-1": { of: "125m-q4_0", seed: 1 },
  "125m-q4_0-lora-2": { of: "125m-q4_0", seed: 2 },
} as const satisfies Record<string, { of: keyof typeof SHAPES; seed: number }>;

const DEFAULT = { ...SHAPES, ...ENCODERS, ...COPYING, ...ADAPTERS };

export type ModelName = keyof typeof DEFAULT | keyof typeof LARGE;
const NAMES = Object.keys(DEFAULT) as ModelName[];

function make(name: ModelName): Buffer {
  if (name in SHAPES) return randomModel(SHAPES[name as keyof typeof SHAPES]);
  if (name in LARGE) return randomModel(LARGE[name as keyof typeof LARGE]);
  if (name in ENCODERS) return randomEncoder(ENCODERS[name as keyof typeof ENCODERS]);
  if (name in ADAPTERS) {
    const { of, seed } = ADAPTERS[name as keyof typeof ADAPTERS];
    return randomAdapter(SHAPES[of], seed);
  }
  const shape = COPYING[name as keyof typeof COPYING];
  return copying(randomModel(shape), shape);
}

/** The file of a model, made if it is not there. */
export function benchModel(name: ModelName): string {
  const folder = path.join(import.meta.dirname, "models");
  const file = path.join(folder, `${name}.gguf`);
  if (!existsSync(file)) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(`${file}.part`, make(name));
    renameSync(`${file}.part`, file);
  }
  return file;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const asked = process.argv.slice(2) as ModelName[];
  for (const name of asked.length > 0 ? asked : NAMES) console.log(benchModel(name));
}
