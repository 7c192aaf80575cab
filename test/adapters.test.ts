// Adapters: PEFT's folders made GGUF files, control vectors, and how both are used.

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
  type Adapter,
  type AdapterChoice,
  type ConvertAdapterOptions,
  type LoadOptions,
  type Model,
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
import { writeGguf } from "./support/gguf-writer.js";
import { byteLevelTokenizer } from "./support/hf-tokenizers.js";
import { root, TINY_STORIES, withModel } from "./support/models.js";
import { referenceLogprobs, type ReferenceModel } from "./support/reference-model.js";
import { temporaryFolder } from "./support/temporary-folder.js";

const PROMPT = [7, 45, 300, 12, 12, 99, 256, 3, 81, 200, 5, 17];
const EXACT: LoadOptions = { kvCache: { keyType: "f32", valueType: "f32" }, flashAttention: false };

interface RandomAdapter {
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
): RandomAdapter {
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
function merged(reference: ReferenceModel, adapters: [RandomAdapter, scale: number][]): ReferenceModel {
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

describe("adapters", function () {
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

  function writeAdapter({ config, tensors }: Pick<RandomAdapter, "config" | "tensors">, name = "adapter"): string {
    mkdirSync(folder.path(name), { recursive: true });
    writeJson(folder.path(name), { "adapter_config.json": config });
    writeFileSync(folder.path(name, "adapter_model.safetensors"), encodeSafetensors(tensors));
    return folder.path(name);
  }

  async function assertComputes(reference: ReferenceModel, load: LoadOptions & { path?: string }, tolerance = 3e-3) {
    await withModel({ path: folder.path("base.gguf"), ...EXACT, ...load }, (model) =>
      assertGenerates(model, reference, undefined, tolerance),
    );
  }

  async function assertGenerates(
    model: Model,
    reference: ReferenceModel,
    adapters: AdapterChoice[] | undefined,
    tolerance = 3e-3,
  ) {
    const options = { temperature: 0, maxTokens: 5, logprobs: 20, ...(adapters && { adapters }) };
    const result = await model.generate(PROMPT, options).result;
    const expected = referenceLogprobs(reference, [...PROMPT, ...result.tokens]);
    result.logprobs!.forEach(({ top }, i) => {
      for (const { token, logprob } of top) {
        const apart = Math.abs(logprob - expected[PROMPT.length - 1 + i]![token]!);
        assert.ok(apart < tolerance, `token ${token} at ${i}: ${apart}`);
      }
    });
  }

  /** Two LoRA adapters and a control vector for the base of the family "llama". */
  async function writeThree() {
    const reference = await writeBase("llama");
    const first = randomAdapter(reference, 1);
    const second = randomAdapter(reference, 2, { targets: /q_proj|v_proj|down_proj/, rank: 2 });
    const base = { base: folder.path("base") };
    for (const [name, adapter] of Object.entries({ first, second }))
      await convertAdapter(writeAdapter(adapter, name), folder.path(`${name}.gguf`), base);
    const vector = writeVector({ 1: 0.3 });
    const files = {
      first: folder.path("first.gguf"),
      second: folder.path("second.gguf"),
      vector: folder.path("vector.gguf"),
    };
    return { reference, first, second, vector, files };
  }

  /** A control vector of random directions, of the given sizes, for layers of the base. */
  function writeVector(layers: Record<number, number>, { width = 32, hint = "llama" } = {}): Map<number, Float32Array> {
    const random = randomNumbers(9);
    const directions = new Map(
      Object.entries(layers).map(([layer, size]) => [
        Number(layer),
        Float32Array.from({ length: width }, () => size * random()),
      ]),
    );
    const tensors = [...directions].map(([layer, values]) => ({
      name: `direction.${layer}`,
      shape: [width],
      type: 0,
      data: new Uint8Array(values.buffer),
    }));
    const metadata = [
      { key: "general.architecture", type: "string" as const, value: "controlvector" },
      { key: "controlvector.model_hint", type: "string" as const, value: hint },
    ];
    writeFileSync(folder.path("vector.gguf"), writeGguf({ metadata, tensors }));
    return directions;
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
      damage: (adapter: RandomAdapter) => void,
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
      ({ config }: RandomAdapter) =>
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
    await load([folder.path("base.gguf")], "UNSUPPORTED_MODEL", /is no LoRA adapter and no control vector/);
    await load([folder.path("a.gguf")], "UNSUPPORTED_MODEL", /of other shapes than the model's/, TINY_STORIES);
    renameSync(folder.path("base.gguf"), folder.path("llama.gguf"));
    await writeBase("qwen3");
    await load([folder.path("a.gguf")], "UNSUPPORTED_MODEL", /architecture 'llama'.*'qwen3'/);
    truncateSync(folder.path("a.gguf"), 2000);
    await load([folder.path("a.gguf")], "INVALID_GGUF", /not a usable GGUF file/, folder.path("llama.gguf"));
  });

  it("computes each request with what it asks for, many at a time, as the merged weights do", async () => {
    const { reference, first, second, vector, files } = await writeThree();
    const steered = (model: ReferenceModel, scale: number): ReferenceModel => ({
      ...model,
      directions: new Map([...vector].map(([layer, values]) => [layer, values.map((value) => scale * value)])),
    });
    for (const more of [{}, { deterministic: true }, { kvCache: { ...EXACT.kvCache!, layout: "split" as const } }]) {
      const load = { path: folder.path("base.gguf"), ...EXACT, parallel: 4, ...more, adapters: [files.first] };
      await withModel(load, async (model) => {
        const [one] = model.adapters as [Adapter];
        const two = await model.loadAdapter(files.second);
        const steer = await model.loadAdapter(files.vector);
        assert.deepEqual(
          model.adapters.map(({ path, kind, bytes }) => [path, kind, bytes]),
          [
            [files.first, "lora", (await inspectGguf(files.first)).weightBytes],
            [files.second, "lora", (await inspectGguf(files.second)).weightBytes],
            [files.vector, "controlVector", 32 * 4],
          ],
        );
        const cases: [ReferenceModel, AdapterChoice[] | undefined][] = [
          [merged(reference, [[first, 1]]), undefined],
          [reference, []],
          [merged(reference, [[second, 1]]), [two]],
          [merged(reference, [[first, 0.5], [second, -0.25]]), [{ adapter: one, scale: 0.5 }, { adapter: two, scale: -0.25 }]],
          [reference, [{ adapter: two, scale: 0 }]],
          [steered(reference, 1), [steer]],
          [steered(merged(reference, [[second, 1]]), -2), [two, { adapter: steer, scale: -2 }]],
        ]; // prettier-ignore
        // Twice: the second time from the prefix cache.
        for (let round = 0; round < 2; round++)
          await Promise.all(cases.map(([expected, adapters]) => assertGenerates(model, expected, adapters)));
      });
    }
  });

  it("shares what was computed among requests of the same adapters, and of no others", async () => {
    const { files } = await writeThree();
    await withModel({ path: folder.path("base.gguf"), adapters: [files.first] }, async (model) => {
      const two = await model.loadAdapter(files.second);
      const cached = async (adapters?: AdapterChoice[]) =>
        (await model.generate(PROMPT, { maxTokens: 1, ...(adapters && { adapters }) }).result).usage.cachedTokens;
      const all = PROMPT.length - 1;
      assert.deepEqual([await cached(), await cached([two]), await cached([])], [0, 0, 0]);
      assert.deepEqual([await cached(), await cached([two]), await cached([])], [all, all, all]);
      assert.deepEqual(
        [await cached(model.adapters.slice(0, 1)), await cached([{ adapter: two, scale: 0.5 }])],
        [all, 0],
      );
      const used = model.status().kvCache.used;
      await two.unload();
      assert.ok(model.status().kvCache.used < used);
      assert.deepEqual([await cached(), await cached([])], [all, all]);
      const again = await model.loadAdapter(files.second);
      assert.equal(await cached([again]), 0);
    });
  });

  it("is used in chats, sessions, scores and embeddings, also in a process of its own", async () => {
    const { reference, first, files } = await writeThree();
    const changed = merged(reference, [[first, 1]]);
    for (const isolation of ["none", "process"] as const) {
      await withModel({ path: folder.path("base.gguf"), ...EXACT, isolation }, async (model) => {
        const adapters = [await model.loadAdapter(files.first)];
        const expected = referenceLogprobs(changed, PROMPT);
        const { logprobs } = await model.score(PROMPT, { adapters });
        logprobs.forEach((logprob, i) => {
          assert.ok(Math.abs(logprob - expected[i]![PROMPT[i + 1]!]!) < 3e-3);
        });

        const greedy = { temperature: 0, maxTokens: 6 };
        const plain = (await model.generate(PROMPT, greedy).result).tokens;
        const other = (await model.generate(PROMPT, { ...greedy, adapters }).result).tokens;
        assert.notDeepEqual(plain, other);
        const session = model.session([], { adapters });
        await session.append(PROMPT);
        const fork = session.fork();
        const snapshot = await session.snapshot();
        const generation = await session.generate(undefined, greedy).result;
        assert.deepEqual([generation.tokens, generation.usage.cachedTokens], [other, PROMPT.length - 1]);
        assert.deepEqual((await fork.generate(undefined, { ...greedy, adapters: [] }).result).tokens, plain);
        await assert.rejects(model.session().restore(snapshot), coldstartError("INVALID_SNAPSHOT", /another model/));
        const restored = model.session([], { adapters });
        await restored.restore(snapshot);
        assert.deepEqual((await restored.generate(undefined, greedy).result).tokens, other);

        const [vector] = (await model.embed("abc def")).vectors as [Float32Array];
        const [[same], [different]] = [
          (await model.embed("abc def", { adapters: [] })).vectors as [Float32Array],
          (await model.embed("abc def", { adapters })).vectors as [Float32Array],
        ];
        assert.deepEqual(same, vector);
        assert.notDeepEqual(different, vector);

        const chat = { chatTemplate: "chatml", ...greedy };
        const say = async (options: { adapters?: AdapterChoice[] }) =>
          (await model.chat({ ...chat, ...options }).send("abc").result).message.content;
        assert.notEqual(await say({ adapters }), await say({}));
      });
    }
  });

  it("goes when the generations are done that use it, and with the model", async () => {
    const { files } = await writeThree();
    const model = await loadModel(folder.path("base.gguf"), { threads: 1, adapters: [files.first] });
    const adapter = await model.loadAdapter(files.second);
    const generation = model.generate(PROMPT, { maxTokens: 200, adapters: [adapter] });
    let isUnloaded = false;
    const unloaded = adapter.unload().then(() => (isUnloaded = true));
    assert.deepEqual(model.adapters.map(({ path }) => path), [files.first]); // prettier-ignore
    assert.throws(
      () => model.generate(PROMPT, { adapters: [adapter] }),
      coldstartError("INVALID_OPTION", /adapters\[0\] is .*second.gguf, which this model has not loaded/),
    );
    for await (const chunk of generation) assert.ok(!isUnloaded, `unloaded at ${JSON.stringify(chunk.tokens)}`);
    await unloaded;
    await adapter.unload();
    // What it was loaded with, too: nothing is left to use by default.
    const plain = (await model.generate(PROMPT, { maxTokens: 6, temperature: 0, adapters: [] }).result).tokens;
    await (model.adapters[0] as Adapter).unload();
    assert.deepEqual((await model.generate(PROMPT, { maxTokens: 6, temperature: 0 }).result).tokens, plain);
    {
      await using last = await model.loadAdapter(files.first);
      assert.deepEqual(model.adapters, [last]);
    }
    assert.deepEqual(model.adapters, []);
    const end = await model.loadAdapter(files.first);
    const running = model.generate(PROMPT, { adapters: [end] });
    const gone = end.unload();
    await model.dispose();
    await gone;
    await assert.rejects(running.result, coldstartError("DISPOSED"));
    await assert.rejects(model.loadAdapter(files.first), coldstartError("DISPOSED"));
  });

  it("is refused when it does not fit, and the model goes on", async () => {
    const { files } = await writeThree();
    await withModel({ path: folder.path("base.gguf") }, async (model) => {
      const fails = (file: unknown, ...expected: Parameters<typeof coldstartError>) =>
        assert.rejects(model.loadAdapter(file as string), coldstartError(...expected));
      await fails(7, "INVALID_OPTION", /path/);
      await fails(folder.path("none.gguf"), "MODEL_NOT_FOUND", /none\.gguf/);
      await fails(folder.path("base.gguf"), "UNSUPPORTED_MODEL", /no LoRA adapter and no control vector/);
      writeVector({ 1: 1 }, { width: 16 });
      await fails(files.vector, "UNSUPPORTED_MODEL", /16 numbers for layer 1.* of 32/);
      writeVector({ 1: 1 }, { hint: "qwen3" });
      await fails(files.vector, "UNSUPPORTED_MODEL", /architecture 'qwen3'.*'llama'/);
      for (const layer of [0, 2]) {
        writeVector({ [layer]: 1 });
        await fails(
          files.vector,
          "UNSUPPORTED_MODEL",
          new RegExp(`32 numbers for layer ${layer}, .* the layers 1 to 1`),
        );
      }
      writeVector({});
      await fails(files.vector, "INVALID_GGUF", /no directions/);
      const whole = readFileSync(files.first);
      writeFileSync(folder.path("cut.gguf"), whole.subarray(0, whole.length - 100));
      await fails(folder.path("cut.gguf"), "INVALID_GGUF", /not a usable GGUF file/);

      const adapter = await model.loadAdapter(files.first);
      const refuses = (adapters: unknown, message: RegExp) =>
        assert.throws(
          () => model.generate(PROMPT, { adapters } as { adapters: AdapterChoice[] }),
          coldstartError("INVALID_OPTION", message),
        );
      refuses(adapter, /adapters is/);
      refuses([files.first], /adapters\[0\]/);
      refuses([{ adapter, scale: 1000 }], /adapters\[0\]\.scale is 1000/);
      refuses([{ adapter: files.first }], /adapters\[0\]\.adapter/);
      refuses([adapter, { adapter, scale: 0.5 }], /each adapter once/);
      await withModel({ path: folder.path("base.gguf") }, async (other) => {
        const foreign = await other.loadAdapter(files.first);
        refuses([foreign], /which this model has not loaded/);
      });
      await model.generate(PROMPT, { maxTokens: 3, adapters: [adapter] }).result;
    });
  });

  it("comes and goes under load, and every generation computes with what it asked for", async () => {
    const { files } = await writeThree();
    await withModel({ path: folder.path("base.gguf"), parallel: 3, ...EXACT }, async (model) => {
      const options = { temperature: 0, maxTokens: 12 };
      const one = await model.loadAdapter(files.first);
      const alone = await model.generate(PROMPT, options).result;
      const withOne = await model.generate(PROMPT, { ...options, adapters: [one] }).result;
      const two = await model.loadAdapter(files.second);
      const withTwo = await model.generate(PROMPT, { ...options, adapters: [two] }).result;
      await two.unload();
      await Promise.all(
        Array.from({ length: 24 }, async (_, i) => {
          const own = await model.loadAdapter(files.second);
          const [expected, adapters] = [
            [alone, []],
            [withOne, [one]],
            [withTwo, [own]],
          ][i % 3] as [typeof alone, AdapterChoice[]];
          const aborted = AbortSignal.timeout(i % 4 === 3 ? 5 : 60_000);
          const result = model.generate(PROMPT, { ...options, adapters, signal: aborted }).result;
          const unloaded = own.unload();
          const { tokens } = await result;
          assert.deepEqual(tokens, expected.tokens.slice(0, tokens.length));
          await unloaded;
        }),
      );
      assert.deepEqual(model.adapters, [one]);
    });
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
