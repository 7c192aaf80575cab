// Folders in Hugging Face's layout, loaded without a file in between.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import {
  convertModel,
  inspectGguf,
  loadModel,
  planModel,
  quantizeModel,
  type LoadOptions,
  type Model,
  type Plan,
} from "../lib/index.js";
import { f32, randomNumbers, writeJson, writeWeights, type RawTensor, type Tensors } from "./support/checkpoint.js";
import { FAMILIES, type TestFamily } from "./support/checkpoint-families.js";
import { coldstartError } from "./support/errors.js";
import { byteLevelTokenizer } from "./support/hf-tokenizers.js";
import { root, withModel } from "./support/models.js";
import { temporaryFolder } from "./support/temporary-folder.js";

const PROMPT = [7, 45, 300, 12, 12, 99, 256, 3, 81, 200, 5, 17];

function writeFolder(folder: string, { config, reference }: TestFamily, tensors: Tensors = reference.tensors): string {
  mkdirSync(folder, { recursive: true });
  writeJson(folder, {
    "config.json": config,
    "tokenizer.json": byteLevelTokenizer({ pre: "qwen2", eos: "<|endoftext|>" }),
    "tokenizer_config.json": { eos_token: "<|endoftext|>", bos_token: null },
  });
  writeWeights(folder, tensors, 2);
  return folder;
}

/** The same, with matrices of a size that mixtures quantize, in F16. */
function writeLlama(folder: string, { width = 256, feedForward = 512, layers = 2, seed = 1 } = {}): string {
  const random = randomNumbers(seed);
  // The same numbers again and again: they are many.
  const half = Buffer.alloc(2 ** 16);
  for (let i = 0; i < half.length; i += 2)
    half.writeUInt16LE(0x2000 + Math.floor(Math.abs(random()) * 0x0c00) + (random() > 0 ? 0 : 0x8000), i);
  const tensors: Tensors = new Map();
  const matrix = (name: string, rows: number, columns: number) => {
    const data = Buffer.alloc(2 * rows * columns, half);
    tensors.set(`${name}.weight`, { type: "F16", shape: [rows, columns], data } satisfies RawTensor);
  };
  const norm = (name: string) =>
    tensors.set(
      `${name}.weight`,
      f32([width], () => 1 + 0.1 * random()),
    );
  matrix("model.embed_tokens", 384, width);
  norm("model.norm");
  for (let i = 0; i < layers; i++) {
    const layer = `model.layers.${i}`;
    norm(`${layer}.input_layernorm`);
    norm(`${layer}.post_attention_layernorm`);
    for (const name of ["q", "k", "v", "o"]) matrix(`${layer}.self_attn.${name}_proj`, width, width);
    matrix(`${layer}.mlp.gate_proj`, feedForward, width);
    matrix(`${layer}.mlp.up_proj`, feedForward, width);
    matrix(`${layer}.mlp.down_proj`, width, feedForward);
  }
  const config = {
    architectures: ["LlamaForCausalLM"],
    hidden_act: "silu",
    vocab_size: 384,
    hidden_size: width,
    intermediate_size: feedForward,
    num_hidden_layers: layers,
    num_attention_heads: 4,
    num_key_value_heads: 4,
    max_position_embeddings: 256,
    rms_norm_eps: 1e-5,
    rope_theta: 10_000,
    tie_word_embeddings: true,
  };
  return writeFolder(folder, { config, reference: { tensors } as TestFamily["reference"] });
}

const coldstart = (...args: string[]) =>
  spawnSync(process.execPath, [path.join(root, "dist/cli/main.js"), ...args], { encoding: "utf8" });

const generate = async (model: Model) => {
  const { tokens, logprobs } = await model.generate(PROMPT, { maxTokens: 12, temperature: 0, logprobs: 5 }).result;
  return { tokens, logprobs };
};
const generateWith = (file: string, options: LoadOptions = {}) => withModel({ path: file, ...options }, generate);

describe("loadModel(folder)", function () {
  this.timeout(60_000);
  const folder = temporaryFolder();

  for (const [name, make] of Object.entries(FAMILIES)) {
    it(`is the model of the converted file, bit by bit: ${name}`, async () => {
      const checkpoint = writeFolder(folder.path(name), make());
      await convertModel(checkpoint, folder.path("model.gguf"));
      const expected = await generateWith(folder.path("model.gguf"), { loadMode: "copy" });
      await withModel({ path: checkpoint, threads: 2 }, async (model) => {
        assert.deepEqual(await generate(model), expected);
        assert.equal(model.info.path, checkpoint);
        assert.equal(model.placement.loadMode, "copy");
        const { metadata } = await inspectGguf(folder.path("model.gguf"));
        assert.equal(model.info.metadata["general.name"], metadata["general.name"]);
        assert.equal(model.info.vocabulary.size, 384);
      });
      const quantized = await quantizeModel(checkpoint, folder.path("direct.gguf"), { type: "Q8_0" });
      await quantizeModel(folder.path("model.gguf"), folder.path("two-steps.gguf"), { type: "Q8_0" });
      assert.ok(readFileSync(folder.path("direct.gguf")).equals(readFileSync(folder.path("two-steps.gguf"))));
      assert.ok(quantized.bytes < quantized.sourceBytes);
      const afterwards = await generateWith(folder.path("direct.gguf"), { loadMode: "copy" });
      assert.deepEqual(await generateWith(checkpoint, { quantize: "Q8_0" }), afterwards);
      const run = coldstart("run", checkpoint, "--quantize", "Q4_K_M", "-p", "One day,", "-n", "4", "-q");
      assert.equal(run.status, 0, run.stderr);
      assert.ok(run.stdout.startsWith("One day,"));
    });
  }

  it("quantizes to mixtures as two steps do, and says what the result is", async () => {
    const checkpoint = writeLlama(folder.path("model"));
    const [direct, converted, twoSteps] = ["direct.gguf", "f16.gguf", "two-steps.gguf"].map((name) =>
      folder.path(name),
    );
    const result = await convertModel(checkpoint, converted!);
    assert.deepEqual([result.type, result.architecture], ["F16", "llama"]);
    await quantizeModel(converted!, twoSteps!, { type: "Q4_K_M" });
    await quantizeModel(checkpoint, direct!, { type: "Q4_K_M" });
    assert.ok(readFileSync(direct!).equals(readFileSync(twoSteps!)));
    const expected = await generateWith(direct!, { loadMode: "copy" });
    for (const source of [checkpoint, pathToFileURL(checkpoint), converted!]) {
      const model = await loadModel(source, { quantize: "Q4_K_M", threads: 1 });
      assert.deepEqual(await generate(model), expected);
      assert.equal(model.info.quantization, "Q4_K - Medium");
      assert.equal(model.info.metadata["general.file_type"], 15); // llama.h: LLAMA_FTYPE_MOSTLY_Q4_K_M
      await model.dispose();
    }
    const demand = ({ devices }: Plan) => devices.map((device) => ({ ...device, free: 0 }));
    for (const quantize of [{}, { quantize: "Q4_K_M" }] as const) {
      const planned = await planModel(checkpoint, { threads: 1, ...quantize });
      const ofFile = await planModel(converted!, { threads: 1, loadMode: "copy", ...quantize });
      assert.deepEqual(demand(planned), demand(ofFile));
    }
  });

  it("keeps what was quantized, and knows when the folder has changed", async () => {
    const checkpoint = writeLlama(folder.path("model"));
    const load = { path: checkpoint, quantize: "Q4_K_M", quantizeCache: folder.path("cache") } as const;
    const expected = await generateWith(checkpoint, { quantize: "Q4_K_M" });
    for (const _ of [1, 2]) assert.deepEqual(await withModel(load, generate), expected);
    const kept = readdirSync(folder.path("cache"));
    assert.equal(kept.length, 1);
    assert.match(kept[0]!, /^model\.Q4_K_M\.[0-9a-f]{16}\.gguf$/);
    writeLlama(checkpoint, { seed: 2 });
    assert.notDeepEqual(await withModel(load, generate), expected);
    assert.equal(readdirSync(folder.path("cache")).length, 2);
  });

  it("takes sessions of the same weights only", async () => {
    const checkpoint = writeLlama(folder.path("model"));
    const other = writeLlama(folder.path("other"), { seed: 2 });
    const save = (file: string) =>
      withModel({ path: file }, async (model) => {
        const session = model.session();
        await session.append(PROMPT);
        return session.snapshot();
      });
    const restore = (file: string, snapshot: Uint8Array) =>
      withModel({ path: file }, (model) => model.session().restore(snapshot));
    const snapshot = await save(checkpoint);
    await restore(checkpoint, snapshot);
    await assert.rejects(restore(other, snapshot), coldstartError("INVALID_SNAPSHOT"));
  });

  it("loads in a process of its own, tells how far it is, and ends on request", async () => {
    const checkpoint = writeLlama(folder.path("model"));
    const expected = await generateWith(checkpoint, { quantize: "Q4_K_M" });
    const seen: number[] = [];
    const onProgress = (fraction: number) => seen.push(fraction);
    const options = { quantize: "Q4_K_M", isolation: "process", onProgress } as const;
    assert.deepEqual(await generateWith(checkpoint, options), expected);
    assert.deepEqual(seen, seen.toSorted((a, b) => a - b)); // prettier-ignore
    assert.ok(seen.length > 0 && seen.every((fraction) => fraction >= 0 && fraction <= 1));
    const abort = new AbortController();
    const aborted = loadModel(checkpoint, {
      quantize: "Q4_K_M",
      threads: 1,
      signal: abort.signal,
      onProgress: () => abort.abort(),
    });
    await assert.rejects(aborted, coldstartError("ABORTED"));
  });

  it("refuses what is damaged, as convertModel() does", async () => {
    const family = FAMILIES["llama"]!();
    const refuses = async (
      damage: (checkpoint: string) => void,
      code: Parameters<typeof coldstartError>[0],
      message: RegExp,
      options: LoadOptions = {},
    ) => {
      const checkpoint = writeFolder(folder.path("damaged"), family);
      damage(checkpoint);
      await assert.rejects(loadModel(checkpoint, options), coldstartError(code, message));
      if (options.loadMode === undefined)
        await assert.rejects(convertModel(checkpoint, folder.path("x.gguf")), coldstartError(code, message));
    };
    const shard = (checkpoint: string) => path.join(checkpoint, "model-00002-of-00002.safetensors");
    await refuses((at) => truncateSync(shard(at), 1000), "INVALID_CHECKPOINT", /damaged/);
    await refuses(
      (at) => writeJson(at, { "config.json": { ...family.config, architectures: ["Nobody"] } }),
      "UNSUPPORTED_MODEL",
      /Nobody/,
    );
    await refuses(() => undefined, "INVALID_OPTION", /loadMode is "mmap".*folder/s, { loadMode: "mmap" });
    const nan = (at: string) => {
      const bytes = readFileSync(shard(at));
      bytes.writeUInt32LE(0x7fc00000, bytes.length - 8);
      writeFileSync(shard(at), bytes);
    };
    await refuses(nan, "INVALID_CHECKPOINT", /The weight \d+ of the tensor \S+ is NaN or infinite/);
    for (const quantize of ["Q8_0", "F16"] as const)
      await refuses(nan, "INVALID_CHECKPOINT", /The weight \d+ of the tensor \S+ is NaN or infinite/, { quantize });
    mkdirSync(folder.path("empty"));
    await assert.rejects(loadModel(folder.path("empty")), coldstartError("MODEL_NOT_FOUND", /is a directory/));
    await assert.rejects(planModel(folder.path("empty")), coldstartError("MODEL_NOT_FOUND", /is a directory/));
    const within = quantizeModel(writeFolder(folder.path("good"), family), shard(folder.path("good")), {
      type: "Q8_0",
    });
    await assert.rejects(within, coldstartError("INVALID_OPTION", /another file than those of the input/));
  });

  it("has no more in memory than the result and a bounded buffer", function () {
    if (process.platform !== "linux") return this.skip();
    const checkpoint = writeLlama(folder.path("large"), { width: 1024, feedForward: 2816, layers: 6 });
    const peak = (source: string, options: LoadOptions) => {
      const script = `
        import { loadModel } from ${JSON.stringify(pathToFileURL(path.join(root, "dist/index.js")).href)};
        const model = await loadModel(${JSON.stringify(source)}, ${JSON.stringify({ contextLength: 64, ...options })});
        console.log(JSON.stringify([process.resourceUsage().maxRSS * 1024, model.info.weightBytes]));
        await model.dispose();`;
      const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
        encoding: "utf8",
      });
      assert.notEqual(stdout, "", stderr);
      return JSON.parse(stdout) as [peak: number, weights: number];
    };
    const small = writeLlama(folder.path("small"), { width: 1024, feedForward: 2816, layers: 1 });
    for (const options of [{ quantize: "Q4_K_M" }, {}] as const) {
      const [[base, without], [most, weights]] = [peak(small, options), peak(checkpoint, options)];
      // Of a tensor that is rearranged for the CPU there are two for a while.
      assert.ok(
        most - base <= weights - without + 64 * 2 ** 20 + 16 * 2 ** 20,
        `${(most - base) / 2 ** 20} MiB for ${(weights - without) / 2 ** 20}`,
      );
    }
  });

  it("is what coldstart run, plan and quantize take", () => {
    const checkpoint = writeLlama(folder.path("Tiny-Llama"));
    const run = coldstart("run", checkpoint, "--quantize", "Q4_K_M", "-p", "One day,", "-n", "4", "-q");
    assert.equal(run.status, 0, run.stderr);
    assert.ok(run.stdout.startsWith("One day,"));
    const plan = coldstart("plan", checkpoint, "--quantize", "Q4_K_M", "--json");
    assert.equal((JSON.parse(plan.stdout) as Plan).fits, true, plan.stderr);
    const quantize = coldstart("quantize", checkpoint, folder.path(), "-t", "Q4_K_M");
    assert.equal(quantize.status, 0, quantize.stderr);
    assert.ok(readdirSync(folder.path()).includes("Tiny-Llama-Q4_K_M.gguf"));
  });
});
