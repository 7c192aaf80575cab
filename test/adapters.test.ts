// LoRA adapters: PEFT's folders made GGUF files, and used.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, renameSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import {
  convertAdapter,
  convertModel,
  inspectGguf,
  loadModel,
  planModel,
  type ConvertAdapterOptions,
  type LoadOptions,
} from "../lib/index.js";
import {
  encodeSafetensors,
  f32,
  randomNumbers,
  valuesOf,
  writeJson,
  writeWeights,
  type Tensors,
} from "./support/checkpoint.js";
import { FAMILIES } from "./support/checkpoint-families.js";
import { coldstartError } from "./support/errors.js";
import { byteLevelTokenizer } from "./support/hf-tokenizers.js";
import { root, TINY_STORIES, withModel } from "./support/models.js";
import { referenceLogprobs, type ReferenceModel } from "./support/reference-model.js";
import { temporaryFolder } from "./support/temporary-folder.js";

const PROMPT = [7, 45, 300, 12, 12, 99, 256, 3, 81, 200, 5, 17];
const EXACT: LoadOptions = { kvCache: { keyType: "f32", valueType: "f32" }, flashAttention: false };

interface Adapter {
  config: Record<string, unknown>;
  tensors: Tensors;
  /** What it adds to each matrix, at scale 1. */
  delta: Map<string, Float64Array>;
}

/** A random adapter for the modules that `targets` matches. */
function randomAdapter(
  reference: ReferenceModel,
  seed: number,
  { targets = /_proj$/, rank = 4, alpha = 8, stabilized = false, ranks = {}, alphas = {} as Record<string, number> }: {
    targets?: RegExp; rank?: number; alpha?: number; stabilized?: boolean; ranks?: Record<string, number>; alphas?: Record<string, number>;
  } = {}, // prettier-ignore
): Adapter {
  const random = randomNumbers(seed);
  const tensors: Tensors = new Map();
  const delta = new Map<string, Float64Array>();
  for (const [name, { shape }] of reference.tensors) {
    const module = name.replace(/\.weight$/, "");
    if (!targets.test(module) || !name.endsWith(".weight") || shape.length !== 2) continue;
    const [outputs, inputs] = shape as [number, number];
    const own = (map: Record<string, number>, or: number) =>
      Object.entries(map).find(([key]) => module === key || module.endsWith(`.${key}`))?.[1] ?? or;
    const r = own(ranks, rank);
    const a = f32([r, inputs], () => 0.5 * random());
    const b = f32([outputs, r], () => 0.5 * random());
    tensors.set(`base_model.model.${module}.lora_A.weight`, a);
    tensors.set(`base_model.model.${module}.lora_B.weight`, b);
    const scale = own(alphas, alpha) / (stabilized ? Math.sqrt(r) : r);
    const [left, right] = [valuesOf(b), valuesOf(a)];
    const product = new Float64Array(outputs * inputs);
    for (let i = 0; i < outputs; i++)
      for (let k = 0; k < r; k++)
        for (let j = 0; j < inputs; j++) product[i * inputs + j]! += scale * left[i * r + k]! * right[k * inputs + j]!;
    delta.set(name, product);
  }
  const config = {
    peft_type: "LORA", task_type: "CAUSAL_LM", base_model_name_or_path: "nobody/nothing", r: rank, lora_alpha: alpha, bias: "none",
    use_rslora: stabilized, use_dora: false, fan_in_fan_out: false, modules_to_save: null, target_modules: ["q_proj"],
    rank_pattern: ranks, alpha_pattern: alphas, lora_dropout: 0.05, inference_mode: true,
  }; // prettier-ignore
  return { config, tensors, delta };
}

/** The model with what adapters add in its weights. */
function merged(reference: ReferenceModel, adapters: [Adapter, scale: number][]): ReferenceModel {
  const tensors: Tensors = new Map(reference.tensors);
  for (const [{ delta }, scale] of adapters) {
    for (const [name, values] of delta) {
      const before = valuesOf(tensors.get(name)!);
      tensors.set(
        name,
        f32(tensors.get(name)!.shape, (i) => before[i]! + scale * values[i]!),
      );
    }
  }
  return { ...reference, tensors };
}

describe("LoRA adapters", function () {
  this.timeout(60_000);
  const folder = temporaryFolder();

  async function writeBase(family: string) {
    const { config, reference } = FAMILIES[family]!();
    mkdirSync(folder.path("base"), { recursive: true });
    writeJson(folder.path("base"), {
      "config.json": config,
      "tokenizer.json": byteLevelTokenizer({ pre: "qwen2", eos: "<|endoftext|>" }),
      "tokenizer_config.json": { eos_token: "<|endoftext|>", bos_token: null },
    });
    writeWeights(folder.path("base"), reference.tensors, 1);
    await convertModel(folder.path("base"), folder.path("base.gguf"));
    return reference;
  }

  function writeAdapter({ config, tensors }: Pick<Adapter, "config" | "tensors">, name = "adapter"): string {
    mkdirSync(folder.path(name), { recursive: true });
    writeJson(folder.path(name), { "adapter_config.json": config });
    writeFileSync(folder.path(name, "adapter_model.safetensors"), encodeSafetensors(tensors));
    return folder.path(name);
  }

  async function assertComputes(reference: ReferenceModel, load: LoadOptions & { path?: string }, tolerance = 3e-3) {
    await withModel({ path: folder.path("base.gguf"), ...EXACT, ...load }, async (model) => {
      const result = await model.generate(PROMPT, { temperature: 0, maxTokens: 5, logprobs: 20 }).result;
      const expected = referenceLogprobs(reference, [...PROMPT, ...result.tokens]);
      result.logprobs!.forEach(({ top }, i) => {
        for (const { token, logprob } of top) {
          const apart = Math.abs(logprob - expected[PROMPT.length - 1 + i]![token]!);
          assert.ok(apart < tolerance, `token ${token} at ${i}: ${apart}`);
        }
      });
    });
  }

  for (const family of ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3"]) {
    it(`computes what the merged weights do: ${family}`, async () => {
      const reference = await writeBase(family);
      const adapter = randomAdapter(reference, 1);
      const base = { base: folder.path("base") };
      const result = await convertAdapter(writeAdapter(adapter), folder.path("a.gguf"), base);
      assert.deepEqual([result.rank, result.layers], [4, adapter.delta.size]);
      const tolerance = reference.activation === "gelu" ? 1e-2 : 3e-3;
      await assertComputes(merged(reference, [[adapter, 1]]), { adapters: [folder.path("a.gguf")] }, tolerance);
      await convertAdapter(folder.path("adapter"), folder.path("b.gguf"), { base: folder.path("base.gguf") });
      assert.ok(readFileSync(folder.path("b.gguf")).equals(readFileSync(folder.path("a.gguf"))));
    });
  }

  it("computes with several at a time, scaled, and of other ranks, alphas and scales for some layers", async () => {
    const reference = await writeBase("llama");
    const [first, second] = [
      randomAdapter(reference, 1, { targets: /q_proj|down_proj|lm_head/, stabilized: true }),
      randomAdapter(reference, 2, {
        ranks: { "layers.0.self_attn.q_proj": 2, v_proj: 6 },
        alphas: { up_proj: 3, "model.layers.1.mlp.gate_proj": 5 },
      }),
    ] as const;
    const base = { base: folder.path("base") };
    for (const [name, adapter] of Object.entries({ first, second }))
      await convertAdapter(writeAdapter(adapter, name), folder.path(`${name}.gguf`), base);
    const paths = { first: folder.path("first.gguf"), second: folder.path("second.gguf") };
    await assertComputes(merged(reference, [[first, 1]]), { adapters: [paths.first] });
    await assertComputes(merged(reference, [[second, 0.5]]), { adapters: [{ path: paths.second, scale: 0.5 }] });
    const both = [paths.first, { path: paths.second, scale: -0.25 }];
    await assertComputes(merged(reference, [[first, 1], [second, -0.25]]), { adapters: both }); // prettier-ignore
    await assertComputes(reference, { adapters: [{ path: paths.first, scale: 0 }] });
    // And over the folder, quantized, in a process of its own.
    await assertComputes(merged(reference, [[first, 1]]), {
      path: folder.path("base"),
      adapters: [paths.first],
      isolation: "process",
    });
    await withModel({ path: folder.path("base.gguf"), quantize: "Q8_0", adapters: both }, async (model) => {
      assert.deepEqual(model.info.adapters, [{ path: paths.first, scale: 1 }, { path: paths.second, scale: -0.25 }]); // prettier-ignore
      assert.equal((await model.generate(PROMPT, { maxTokens: 3 }).result).tokens.length, 3);
    });
  });

  it("has what llama.cpp's converter writes", async () => {
    const reference = await writeBase("llama");
    const adapter = randomAdapter(reference, 3, { targets: /q_proj$/, rank: 4, alpha: 6 });
    await convertAdapter(writeAdapter(adapter), folder.path("a.gguf"), { base: folder.path("base"), type: "F16" });
    const { metadata, tensors } = await inspectGguf(folder.path("a.gguf"));
    assert.deepEqual(metadata, {
      "general.type": "adapter",
      "general.architecture": "llama",
      "general.name": "adapter",
      "adapter.type": "lora",
      "adapter.lora.alpha": 6,
    });
    assert.deepEqual(
      tensors.map(({ name, shape, type }) => [name, shape, type]),
      [0, 1].flatMap((layer) => [
        [`blk.${layer}.attn_q.weight.lora_a`, [32, 4], "f16"],
        [`blk.${layer}.attn_q.weight.lora_b`, [4, 32], "f16"],
      ]),
    );
  });

  it("counts them in plans, and takes sessions of the same adapters only", async () => {
    const reference = await writeBase("llama");
    await convertAdapter(writeAdapter(randomAdapter(reference, 1)), folder.path("a.gguf"), {
      base: folder.path("base"),
    });
    const bytes = async (adapters: LoadOptions["adapters"] = []) =>
      (await planModel(folder.path("base.gguf"), { gpuLayers: 0, adapters })).devices[0]!.weights;
    const { weightBytes } = await inspectGguf(folder.path("a.gguf"));
    assert.equal((await bytes([folder.path("a.gguf")])) - (await bytes()), weightBytes);
    const load = (adapters: LoadOptions["adapters"] = []) => ({ path: folder.path("base.gguf"), adapters });
    const snapshot = await withModel(load([folder.path("a.gguf")]), async (model) => {
      const session = model.session();
      await session.append(PROMPT);
      return session.snapshot();
    });
    await withModel(load([folder.path("a.gguf")]), (model) => model.session().restore(snapshot));
    const otherwise = withModel(load(), (model) => model.session().restore(snapshot));
    await assert.rejects(otherwise, coldstartError("INVALID_SNAPSHOT"));
  });

  it("finds the base that the adapter names", async () => {
    const reference = await writeBase("qwen3");
    const adapter = randomAdapter(reference, 1);
    adapter.config["base_model_name_or_path"] = "../base";
    const result = await convertAdapter(writeAdapter(adapter), folder.path("a.gguf"));
    assert.equal(result.architecture, "qwen3");
  });

  it("refuses what GGUF cannot hold, what is damaged, and what is for another model", async () => {
    const reference = await writeBase("llama");
    const refuses = async (
      code: "INVALID_CHECKPOINT" | "UNSUPPORTED_MODEL" | "INVALID_OPTION" | "MODEL_NOT_FOUND",
      message: RegExp,
      damage: (adapter: Adapter) => void,
      options: ConvertAdapterOptions = { base: folder.path("base") },
    ) => {
      const adapter = randomAdapter(reference, 1);
      damage(adapter);
      await assert.rejects(
        convertAdapter(writeAdapter(adapter), folder.path("x.gguf"), options),
        coldstartError(code, message),
      );
      assert.ok(!readdirSync(folder.path()).some((name) => name.includes("x.gguf")));
    };
    const set =
      (key: string, value: unknown) =>
      ({ config }: Adapter) =>
        void (config[key] = value);
    const name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    await refuses("UNSUPPORTED_MODEL", /type IA3/, set("peft_type", "IA3"));
    await refuses("UNSUPPORTED_MODEL", /use_dora true/, set("use_dora", true));
    await refuses("UNSUPPORTED_MODEL", /biases/, set("bias", "all"));
    await refuses("UNSUPPORTED_MODEL", /whole modules \("lm_head"\)/, set("modules_to_save", ["lm_head"]));
    await refuses("INVALID_CHECKPOINT", /\[4, 32\].*\[8, 32\]/, set("r", 8));
    await refuses("INVALID_CHECKPOINT", /r of adapter_config.json/, set("r", 0));
    await refuses("INVALID_CHECKPOINT", /lora_alpha/, set("lora_alpha", 0));
    await refuses("INVALID_CHECKPOINT", /no regular expression/, set("rank_pattern", { "[": 2 }));
    await refuses("INVALID_OPTION", /nobody\/nothing/, () => undefined, {});
    await refuses("MODEL_NOT_FOUND", /no file at/, () => undefined, { base: folder.path("none") });
    await refuses("INVALID_CHECKPOINT", /only one of the two matrices/, ({ tensors }) => tensors.delete(name));
    await refuses("UNSUPPORTED_MODEL", /lora_magnitude_vector/, ({ tensors }) =>
      tensors.set(
        "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
        f32([4], () => 1),
      ),
    );
    await refuses("UNSUPPORTED_MODEL", /changes model.layers.9.self_attn.q_proj/, ({ tensors }) => {
      tensors.set(name.replace("layers.0", "layers.9"), tensors.get(name)!);
      tensors.set(name.replace("layers.0", "layers.9").replace("_A", "_B"), tensors.get(name.replace("_A", "_B"))!);
    });
    await refuses("INVALID_CHECKPOINT", /weight 5 of the tensor .*q_proj.lora_A.weight is NaN/, ({ tensors }) => {
      valuesOf(tensors.get(name)!)[5] = NaN;
    });
    await assert.rejects(
      convertAdapter(folder.path("base"), folder.path("x.gguf")),
      coldstartError("MODEL_NOT_FOUND", /adapter_config/),
    );

    await convertAdapter(writeAdapter(randomAdapter(reference, 1)), folder.path("a.gguf"), {
      base: folder.path("base"),
    });
    const load = (
      adapters: unknown,
      code: Parameters<typeof coldstartError>[0],
      message: RegExp,
      model = folder.path("base.gguf"),
    ) => assert.rejects(loadModel(model, { adapters } as LoadOptions), coldstartError(code, message));
    await load("x", "INVALID_OPTION", /adapters is "x"/);
    await load([{ path: "x", scale: 1000 }], "INVALID_OPTION", /adapters\[0\]\.scale/);
    await load([folder.path("none.gguf")], "MODEL_NOT_FOUND", /none\.gguf/);
    await load([folder.path("base.gguf")], "UNSUPPORTED_MODEL", /is no LoRA adapter/);
    await load([folder.path("a.gguf")], "UNSUPPORTED_MODEL", /of other shapes than the model's/, TINY_STORIES);
    renameSync(folder.path("base.gguf"), folder.path("llama.gguf"));
    await writeBase("qwen3");
    await load([folder.path("a.gguf")], "UNSUPPORTED_MODEL", /architecture 'llama'.*'qwen3'/);
    truncateSync(folder.path("a.gguf"), 2000);
    await load([folder.path("a.gguf")], "INVALID_GGUF", /not a usable GGUF file/, folder.path("llama.gguf"));
  });

  it("is made by coldstart convert, and used by coldstart run", async () => {
    const reference = await writeBase("llama");
    writeAdapter(randomAdapter(reference, 1), "my-adapter");
    const coldstart = (...args: string[]) =>
      spawnSync(process.execPath, [path.join(root, "dist/cli/main.js"), ...args], { encoding: "utf8" });
    const convert = coldstart("convert", folder.path("my-adapter"), folder.path(), "--base", folder.path("base.gguf"));
    assert.equal(convert.status, 0, convert.stderr);
    assert.match(convert.stdout, /my-adapter\.gguf: an adapter for llama, 14 layers, rank 4, [\d.]+ KiB/);
    const run = (...args: string[]) =>
      coldstart("run", folder.path("base.gguf"), "-p", "abc", "-n", "8", "-t", "0", "-q", ...args).stdout;
    const [without, half] = [run(), run("--adapter", `${folder.path("my-adapter.gguf")}=0.5`)];
    assert.ok(without.startsWith("abc") && half.startsWith("abc"));
    assert.equal(run("--adapter", `${folder.path("my-adapter.gguf")}=0`), without);
    assert.notEqual(run("--adapter", folder.path("my-adapter.gguf")), without);
    assert.equal(coldstart("convert", folder.path("base"), folder.path("x.gguf"), "--base", "y").status, 2);
  });
});
