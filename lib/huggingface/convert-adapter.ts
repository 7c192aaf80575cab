import { stat } from "node:fs/promises";
import path from "node:path";
import { writeConversion } from "../conversion.js";
import { ColdstartError } from "../errors.js";
import { bytesOf, encodeHeader, float32, string, type PlainType, type TensorInfo } from "../gguf/encode.js";
import { readWatch, WATCH_NAMES, type WatchOptions } from "../gguf/watch.js";
import { native, type NativeCheckpoint } from "../native.js";
import { OptionReader, toPath } from "../options.js";
import { readBase, type BaseLayer, type BaseModel } from "./base-layers.js";
import { invalidCheckpoint, unsupported } from "./errors.js";
import { readOptionalObject, type JsonObject } from "./json.js";
import { readHeader, type CheckpointTensor } from "./safetensors.js";

export interface ConvertAdapterOptions extends WatchOptions {
  /**
   * The model that the adapter is for: a GGUF file of it, or its folder, of which config.json is enough. Default: what
   * adapter_config.json names, if that is a folder here.
   */
  base?: string | URL;
  /** What the matrices are written as. `"auto"` (default) is what they are. */
  type?: "auto" | PlainType;
}

/** What was written. */
export interface ConvertAdapterResult {
  /** GGUF's name of the base model's: `"llama"`, `"qwen3"`, … */
  architecture: string;
  /** Layers that are adapted. */
  layers: number;
  /** The largest of them. */
  rank: number;
  bytes: number;
}

/**
 * Makes a GGUF adapter of a LoRA adapter (Hu et al. 2021, arXiv:2106.09685) in PEFT's layout: a folder with
 * adapter_config.json and adapter_model.safetensors. `loadModel()` takes it in `adapters`, and so do llama.cpp's tools.
 *
 * Ranks and alphas that differ from layer to layer, and rank-stabilized scales, are right: what GGUF has no place for is
 * multiplied into the matrices. What it cannot hold (DoRA, trained embeddings, biases or whole modules, experts) is an error.
 * Everything is checked against the base model before anything is written; the file appears when it is complete.
 *
 * Rejects with `MODEL_NOT_FOUND`, `INVALID_CHECKPOINT`, `UNSUPPORTED_MODEL`, `INVALID_OPTION` (also when the base is not known),
 * `INVALID_GGUF` (the base), `LOAD_FAILED`, `WRITE_FAILED`, `ABORTED`, `NATIVE_ADDON_MISSING`.
 */
export async function convertAdapter(
  folder: string | URL,
  output: string | URL,
  options: ConvertAdapterOptions = {},
): Promise<ConvertAdapterResult> {
  const read = new OptionReader(options, ["base", "type", ...WATCH_NAMES]);
  const type = read.choice("type", ["auto", "F32", "F16", "BF16"] as const, "auto");
  const watch = readWatch(read, "Converting");
  const from = toPath(folder, "folder", "a path, or a file: URL");
  const to = toPath(output, "output", "a path, or a file: URL");
  const given = read.raw("base");
  watch.checkAborted();

  const config = await readConfig(from);
  const base = await readBase(given === undefined ? await namedBase(from, config) : toPath(given, "base"));
  const file = path.join(from, "adapter_model.safetensors");
  const pairs = pairUp(await readHeader(file), base, new Scales(config));
  const tensors = pairs.flatMap((pair) => toTensors(pair, type));
  const { alpha } = pairs[0] ?? { alpha: 0 };
  const header = encodeHeader(
    [
      string("general.type", "adapter"),
      string("general.architecture", base.architecture),
      string("general.name", path.basename(path.resolve(from))),
      string("adapter.type", "lora"),
      float32("adapter.lora.alpha", alpha),
    ],
    tensors,
  ).header;
  const checkpoint: NativeCheckpoint = { header, files: [file], tensors: tensors.map(({ source }) => source) };
  const conversion = new (native().Conversion)(checkpoint, undefined, false);
  await writeConversion(conversion, [to], { threads: 1, device: "cpu", watch });
  return {
    architecture: base.architecture,
    layers: pairs.length,
    rank: Math.max(...pairs.map(({ rank }) => rank)),
    bytes: tensors.reduce((sum, tensor) => sum + bytesOf(tensor), 0),
  };
}

/** Whether it has what an adapter has. */
export async function isAdapterFolder(folder: string): Promise<boolean> {
  return (await stat(path.join(folder, "adapter_config.json")).catch(() => undefined))?.isFile() ?? false;
}

/** Settings that change what is computed, and what they are where they change nothing. */
const PLAIN: Readonly<Record<string, unknown>> = {
  use_dora: false,
  use_qalora: false,
  fan_in_fan_out: false,
  lora_bias: false,
  alora_invocation_tokens: undefined,
  trainable_token_indices: undefined,
  target_parameters: undefined,
  arrow_config: undefined,
};

async function readConfig(folder: string): Promise<JsonObject> {
  const config = await readOptionalObject(folder, "adapter_config.json");
  if (config === undefined) {
    throw new ColdstartError("MODEL_NOT_FOUND", `There is no adapter_config.json in ${folder}.`, {
      remedy: "Give the folder of an adapter in PEFT's layout.",
      details: { path: folder },
    });
  }
  const kind = config.string("peft_type") ?? "LORA";
  if (kind.toUpperCase() !== "LORA")
    throw unsupported(`The adapter is of the type ${kind}, and must be LORA.`, { kind });
  const bias = config.string("bias") ?? "none";
  if (bias !== "none")
    throw unsupported(`The adapter has biases (bias ${bias}), which GGUF adapters cannot hold.`, { bias });
  for (const [key, plain] of Object.entries(PLAIN)) {
    const value = config.get(key);
    const isEmpty = Array.isArray(value) && value.length === 0;
    if (value === undefined || value === plain || isEmpty) continue;
    throw unsupported(`The adapter has ${key} ${JSON.stringify(value)}, which GGUF adapters cannot hold.`, { key });
  }
  const saved = config.array("modules_to_save") ?? [];
  if (saved.length > 0) {
    throw unsupported(
      `The adapter replaces whole modules (${saved.map((name) => JSON.stringify(name)).join(", ")}), which GGUF adapters cannot hold.`,
      {
        saved,
      },
    );
  }
  return config;
}

async function namedBase(folder: string, config: JsonObject): Promise<string> {
  const name = config.string("base_model_name_or_path") ?? "";
  for (const candidate of name === "" ? [] : [path.resolve(name), path.resolve(folder, name)])
    if ((await stat(candidate).catch(() => undefined))?.isDirectory()) return candidate;
  throw new ColdstartError(
    "INVALID_OPTION",
    `The adapter is for the model ${JSON.stringify(name)}, and there is no folder of that name.`,
    { remedy: "Give base: a GGUF file of that model, or its folder.", details: { option: "base", name } },
  );
}

/** By what the product of a layer's matrices is multiplied, as PEFT computes it. */
class Scales {
  /** GGUF's, which holds for all layers. */
  readonly alpha: number;
  readonly #rank: number;
  readonly #isStabilized: boolean;
  readonly #ranks: [RegExp, number][];
  readonly #alphas: [RegExp, number][];

  constructor(config: JsonObject) {
    this.#rank = config.count("r");
    this.alpha = config.number("lora_alpha", 8);
    this.#isStabilized = config.boolean("use_rslora", false);
    this.#ranks = patterns(config.object("rank_pattern"));
    this.#alphas = patterns(config.object("alpha_pattern"));
    if (!(this.alpha > 0)) throw config.wrong("lora_alpha", "must be above 0");
  }

  rankOf(module: string): number {
    return matching(this.#ranks, module) ?? this.#rank;
  }

  /** What remains to be multiplied when `alpha` / rank is. */
  factorOf(module: string): number {
    const rank = this.rankOf(module);
    const alpha = matching(this.#alphas, module) ?? this.alpha;
    const scale = this.#isStabilized ? alpha / Math.sqrt(rank) : alpha / rank;
    return scale / (this.alpha / rank);
  }
}

/** As PEFT's get_pattern_key() matches them. */
function patterns(object: JsonObject | undefined): [RegExp, number][] {
  return (object?.keys() ?? []).map((key) => {
    try {
      return [new RegExp(`^(.*\\.)?(${key})$`), object?.number(key) ?? 0];
    } catch {
      throw invalidCheckpoint(`${object?.where} has the pattern ${key}, which is no regular expression.`, { key });
    }
  });
}

const matching = (all: readonly [RegExp, number][], module: string) =>
  all.find(([pattern]) => pattern.test(module))?.[1];

interface Pair {
  layer: BaseLayer;
  a: CheckpointTensor;
  b: CheckpointTensor;
  rank: number;
  alpha: number;
  factor: number;
}

function pairUp(tensors: readonly CheckpointTensor[], { layers, architecture }: BaseModel, scales: Scales): Pair[] {
  const byModule = new Map<string, { a?: CheckpointTensor; b?: CheckpointTensor }>();
  for (const tensor of tensors) {
    // PEFT's wrapper, then the class that the adapter was trained on.
    const match = /^(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight$/.exec(tensor.name);
    const [, module = "", which] = match ?? [];
    if (!match) {
      throw unsupported(`The adapter has the tensor ${tensor.name}, which GGUF adapters cannot hold.`, {
        tensor: tensor.name,
      });
    }
    const parts = byModule.get(module) ?? {};
    parts[which === "A" ? "a" : "b"] = tensor;
    byModule.set(module, parts);
  }
  if (byModule.size === 0) throw invalidCheckpoint("The adapter has no tensors.");
  return [...byModule].map(([module, { a, b }]) => {
    if (a === undefined || b === undefined)
      throw invalidCheckpoint(`The adapter has only one of the two matrices of ${module}.`, { module });
    const layer = layers.get(module.replace(/^model\.language_model\.|^language_model\.model\./, "model."));
    if (layer === undefined) {
      throw unsupported(
        `The adapter changes ${module}, which is no linear layer of the base model (${architecture}).`,
        {
          module,
        },
      );
    }
    const rank = scales.rankOf(module);
    check(a, [rank, layer.inputs]);
    check(b, [layer.outputs, rank]);
    return { layer, a, b, rank, alpha: scales.alpha, factor: scales.factorOf(module) };
  });
}

const TYPES: readonly string[] = ["F32", "F16", "BF16"] satisfies PlainType[];

function check({ name, shape, type }: CheckpointTensor, expected: readonly number[]): void {
  if (shape.join() !== expected.join()) {
    throw invalidCheckpoint(
      `The tensor ${name} has the shape [${shape.join(", ")}], and adapter_config.json and the base model ask for [${expected.join(", ")}].`,
      { tensor: name, shape, expected },
      "Give the model that the adapter was trained on as base.",
    );
  }
  if (!TYPES.includes(type))
    throw unsupported(`The tensor ${name} has the type ${type}; known for adapters: ${TYPES.join(", ")}.`, {
      tensor: name,
    });
}

type AdapterTensor = TensorInfo & { source: NativeCheckpoint["tensors"][number] };

function toTensors({ layer, a, b, factor }: Pair, type: "auto" | PlainType): AdapterTensor[] {
  const make = (suffix: string, tensor: CheckpointTensor, interleave: number, multiply: number): AdapterTensor => ({
    name: `${layer.name}.${suffix}`,
    // What is multiplied is rounded no further.
    type: type !== "auto" ? type : multiply === 1 ? (tensor.type as PlainType) : "F32",
    shape: tensor.shape.toReversed(),
    source: {
      pieces: [{ name: tensor.name, place: { file: 0, offset: tensor.offset, type: tensor.type } }],
      interleave,
      multiply,
      add: 0,
    },
  });
  return [make("lora_a", a, 0, 1), make("lora_b", b, layer.interleave, factor)];
}
