import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import os from "node:os";
import path from "node:path";
import { inspectGguf, loadModel, planModel, type LoadOptions, type Plan, type PlanOptions } from "../lib/index.js";
import { coldstartError } from "./support/errors.js";
import { root, TINY_STORIES, withModel } from "./support/models.js";
import { tensorBytes, writeGguf } from "./support/gguf-writer.js";
import { inProcess } from "./support/plugins.js";
import { F16, LARGE, Q4_0, randomModel, randomModelOf } from "./support/random-model.js";

const CPU: LoadOptions = { gpuLayers: 0 };
let folder: string;
let large: string;
before(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-plan-"));
  large = path.join(folder, "large.gguf");
  writeFileSync(large, randomModel(LARGE));
});
after(() => rmSync(folder, { recursive: true, force: true }));

function cpu({ devices }: Plan) {
  return devices.find(({ name }) => name === "CPU")!;
}

describe("planModel()", () => {
  it("knows a KV cache's size: keys and values of all layers, heads and tokens", async () => {
    for (const [type, bits] of [["f32", 32], ["f16", 16], ["q8_0", 8.5], ["q4_0", 4.5]] as const) {
      const kvCache = { keyType: type, valueType: type };
      const plan = await planModel(large, { ...CPU, contextLength: 4096, kvCache });
      assert.equal(cpu(plan).kvCache, (4096 * 6 * 2 * 4 * 64 * bits) / 8, type);
    } // prettier-ignore
    const split = await planModel(large, { ...CPU, contextLength: 1024, parallel: 4, kvCache: { layout: "split" } });
    assert.equal(cpu(split).kvCache, 4 * 1024 * 6 * 2 * 4 * 64 * 2);
    assert.deepEqual(split.kvCache, { layout: "split", capacity: 4096 });
  });

  it("knows the weights' size", async () => {
    const { weightBytes } = await inspectGguf(TINY_STORIES);
    // The output matrix is the embedding's.
    assert.ok(Math.abs(cpu(await planModel(TINY_STORIES, CPU)).weights / weightBytes - 1) < 0.02);
  });

  const architectures = {
    "a tied F32 llama": () => readFileSync(TINY_STORIES),
    "an F16 mixture of experts": () =>
      randomModel({ type: F16, vocabulary: 512, width: 128, feedForward: 128, layers: 3, heads: 4, keyValueHeads: 2, contextLength: 2048, tied: true, experts: { count: 4, used: 2 } }), // prettier-ignore
    mamba: () => randomModelOf("mamba"),
    gemma2: () => randomModelOf("gemma2"),
  };
  const wishes: Record<string, LoadOptions> = {
    "by default": {},
    "in a split cache": { kvCache: { layout: "split" }, parallel: 3, contextLength: 128 },
    "in small steps": { batchSize: 32 },
    "copied": { loadMode: "copy" },
    "guessing ahead": { speculative: { type: "lookup" } },
  }; // prettier-ignore
  for (const [name, model] of Object.entries(architectures)) {
    for (const [how, options] of Object.entries(wishes)) {
      if (name !== "a tied F32 llama" && how === "guessing ahead") continue;
      it(`says of ${name}, ${how}, what loading allocates`, async () => {
        const file = path.join(folder, "model.gguf");
        writeFileSync(file, model());
        const plan = await planModel(file, { ...CPU, ...options });
        await withModel({ path: file, ...CPU, ...options }, ({ placement }) => {
          const [planned, real] = [cpu(plan), cpu(placement)];
          for (const part of ["weights", "kvCache", "compute"] as const) {
            const apart = Math.abs(planned[part] - real[part]);
            assert.ok(apart <= Math.max(0.02 * real[part], 1024), `${part}: ${planned[part]}, ${real[part]}`);
          }
          for (const part of ["contextLength", "gpuLayers", "layers", "parallel", "kvCache", "fits"] as const)
            assert.deepEqual(plan[part], placement[part], part);
          return Promise.resolve();
        });
      });
    }
  }

  it("needs only the header", async () => {
    const whole = await planModel(large, CPU);
    const { dataOffset } = await inspectGguf(large);
    const header = Buffer.alloc(dataOffset);
    const file = openSync(large, "r");
    readSync(file, header);
    closeSync(file);
    const plan = await planModel(new Uint8Array(header), CPU);
    assert.deepEqual(withoutFree(plan), withoutFree(whole));
    assert.deepEqual(withoutFree(await planModel([header], CPU)), withoutFree(whole));
    await assert.rejects(planModel(header.subarray(0, -100), CPU), coldstartError("INVALID_GGUF"));
    await assert.rejects(planModel([], CPU), coldstartError("INVALID_OPTION"));
    await assert.rejects(planModel(Buffer.from("no header"), CPU), coldstartError("INVALID_GGUF"));
  });

  it("plans a model of 70 billion weights from its header", async () => {
    const header = headerOf({
      width: 8192,
      layers: 80,
      heads: 64,
      keyValueHeads: 8,
      feedForward: 28_672,
      vocabulary: 128_256,
    });
    const plan = await planModel(header, { ...CPU, contextLength: 8192, memory: { limits: { CPU: 16 * 2 ** 30 } } });
    assert.deepEqual([plan.fits, plan.layers, cpu(plan).layers], [false, 81, 80]);
    // 4.5 bits a weight
    assert.ok(Math.abs(cpu(plan).weights / (70.55e9 * (4.5 / 8)) - 1) < 0.02, String(cpu(plan).weights));
    assert.equal(cpu(plan).kvCache, 8192 * 80 * 2 * 8 * 128 * 2);
    assert.match(plan.notes.join(), /read from the disk again and again/);
  });

  it("counts all parts of a split model", async function () {
    const parts = path.join(root, "build", "cmake", "bin", "llama-gguf-split");
    const prefix = path.join(folder, "part");
    if (!existsSync(parts)) this.skip(); // llama.cpp's own tool is not built
    execFileSync(parts, ["--split", "--split-max-tensors", "20", large, prefix], { stdio: "ignore" });
    const [first] = readdirSync(folder).filter((name) => name.startsWith("part-00001"));
    const plan = await planModel(path.join(folder, first!), CPU);
    assert.deepEqual(withoutFree(plan), withoutFree(await planModel(large, CPU)));
  });

  it("counts adapters and projectors", async () => {
    const plan = await planModel(large, CPU);
    const more = await planModel(large, { ...CPU, adapters: [TINY_STORIES, TINY_STORIES], mmproj: TINY_STORIES });
    const { weightBytes } = await inspectGguf(TINY_STORIES);
    assert.ok(Math.abs(cpu(more).weights - cpu(plan).weights - 3 * weightBytes) <= 1);
    assert.match(more.notes.join(), /projector/);
    const wrong = { adapters: "x" } as unknown as PlanOptions;
    await assert.rejects(planModel(large, wrong), coldstartError("INVALID_OPTION", /adapters/));
  });

  it("finds the longest context that memory allows", async () => {
    const bytes = 6 * 2 * 4 * 64 * 2; // of a token
    const limits = { CPU: 64 * 2 ** 20 + 8000 * bytes };
    const plan = await planModel(large, { ...CPU, contextLength: "auto", memory: { limits } });
    assert.ok(plan.fits && plan.contextLength > 2048 && plan.contextLength < 16_384, String(plan.contextLength));
    assert.match(plan.reasons.contextLength, /no more fits; the model was trained for 32768/);
    const longer = await planModel(large, { ...CPU, contextLength: plan.contextLength + 256, memory: { limits } });
    assert.equal(longer.fits, false);
    const all = await planModel(large, { ...CPU, contextLength: "auto" });
    assert.equal(all.contextLength, 32_768);
    assert.equal((await planModel(large, CPU)).contextLength, 8192);
  });

  it("says what a context takes that no machine has, without taking it", async () => {
    const before = process.memoryUsage().rss;
    const plan = await planModel(large, { ...CPU, contextLength: 1_000_000_000 });
    const bytes = 1e9 * 6 * 2 * 4 * 64 * 2;
    assert.equal(plan.fits, false);
    assert.ok(Math.abs(cpu(plan).kvCache / bytes - 1) < 0.001);
    assert.ok(process.memoryUsage().rss - before < 2 ** 30);
  });

  it("refuses devices and options that make no sense", async () => {
    const refused = async (options: unknown, message: RegExp) =>
      assert.rejects(planModel(large, options as PlanOptions), coldstartError("INVALID_OPTION", message));
    await refused({ gpuLayers: "all" }, /gpuLayers is "all"/);
    await refused({ contextLength: "max" }, /contextLength is "max"/);
    await refused({ splitMode: "columns" }, /splitMode/);
    await refused({ tensorSplit: [] }, /tensorSplit/);
    await refused({ tensorSplit: [1, -1] }, /tensorSplit/);
    await refused({ memory: { leaveFree: 2 } }, /memory.leaveFree/);
    await refused({ memory: { limits: { CPU: "1 GB" } } }, /memory.limits.CPU/);
    await refused({ tensorOverrides: [{ pattern: "x" }] }, /tensorOverrides\[0\].device/);
    await refused({ tensorOverrides: {} }, /tensorOverrides/);
    await refused({ cpuMoeLayers: -1 }, /cpuMoeLayers/);
    await refused({ onOutOfMemory: "panic" }, /onOutOfMemory/);
    await refused({ ...CPU, mainDevice: "CUDA7" }, /mainDevice/);
    await refused(null, /options is null/);
    await refused({ devices: ["CUDA0", "CUDA0"] }, /devices is "CUDA0".*named once/);
    await refused({ devices: [], gpuLayers: "max" }, /gpuLayers is "max".*devices is empty/);
    await refused({ tensorOverrides: [{ device: "CPU" }] }, /tensorOverrides\[0\].pattern/);
    await refused({ tensorOverrides: [{ pattern: /x/i, device: "CPU" }] }, /pattern is "\/x\/i".*without flags/);
    await refused({ ...CPU, tensorOverrides: [{ pattern: "x", device: "CUDA0" }] }, /device is "CUDA0"/);
    await refused({ splitMode: "tensor", kvOffload: false }, /kvOffload is false.*splitMode is "tensor"/);
    await refused({ splitMode: "tensor", flashAttention: false }, /flashAttention is false/);
    await refused({ adapters: [5] }, /adapters\[0\] is 5/);
    await refused({ mmproj: null }, /mmproj is null/);
  });

  it("splits nothing where there is no GPU", async () => {
    for (const splitMode of ["tensor", "row", "none"] as const)
      assert.ok((await planModel(large, { ...CPU, splitMode })).fits, splitMode);
  });

  it("gives a generation no more context than kvCache.capacity", async () => {
    const capacity = async (options: LoadOptions) => {
      const { contextLength, kvCache, reasons } = await planModel(large, { ...CPU, ...options });
      return [contextLength, kvCache.capacity, reasons.contextLength];
    };
    const why = "what kvCache.capacity holds";
    assert.deepEqual(await capacity({ kvCache: { capacity: 1000 } }), [1000, 1024, why]);
    assert.deepEqual(await capacity({ contextLength: "auto", kvCache: { capacity: 2048 } }), [2048, 2048, why]);
    assert.deepEqual(await capacity({ parallel: 4, kvCache: { capacity: 2048, layout: "split" } }), [512, 2048, why]);
    const [length, cells, reason] = await capacity({ kvCache: { capacity: 20_480 } });
    assert.deepEqual([length, cells], [8192, 20_480]);
    assert.match(String(reason), /the default/);
  });

  it("says when a limit is for a device that there is not", async () => {
    const { notes } = await planModel(large, { memory: { limits: { CPU: 2 ** 40, CUDA77: 1 } } });
    assert.match(notes.join(), /memory\.limits names CUDA77, and there is no such device/);
    assert.doesNotMatch(notes.join(), /names CPU/);
  });
});

interface LargeShape {
  width: number;
  layers: number;
  heads: number;
  keyValueHeads: number;
  feedForward: number;
  vocabulary: number;
}

/** The header of a llama model in Q4_0, without weights. */
function headerOf({ width, layers, heads, keyValueHeads, feedForward, vocabulary }: LargeShape): Buffer {
  let offset = 0;
  const tensor = (name: string, type: number, ...shape: number[]) => {
    const found = { name, type, shape, data: new Uint8Array(0), offset };
    offset += Math.ceil(tensorBytes(found) / 32) * 32;
    return found;
  };
  const keyValueWidth = (width / heads) * keyValueHeads;
  const tensors = [tensor("token_embd.weight", Q4_0, width, vocabulary), tensor("output_norm.weight", 0, width)];
  tensors.push(tensor("output.weight", Q4_0, width, vocabulary));
  for (let i = 0; i < layers; i++) {
    for (const [name, ...shape] of [
      ["attn_q", width, width],
      ["attn_k", width, keyValueWidth],
      ["attn_v", width, keyValueWidth],
      ["attn_output", width, width],
      ["ffn_gate", width, feedForward],
      ["ffn_up", width, feedForward],
      ["ffn_down", feedForward, width],
    ] as const)
      tensors.push(tensor(`blk.${i}.${name}.weight`, Q4_0, ...shape));
    for (const name of ["attn_norm", "ffn_norm"]) tensors.push(tensor(`blk.${i}.${name}.weight`, 0, width));
  }
  const number = (key: string, value: number) => ({ key: `llama.${key}`, type: "uint32", value }) as const;
  return writeGguf({
    metadata: [
      { key: "general.architecture", type: "string", value: "llama" },
      number("context_length", 131_072),
      number("embedding_length", width),
      number("block_count", layers),
      number("feed_forward_length", feedForward),
      number("attention.head_count", heads),
      number("attention.head_count_kv", keyValueHeads),
      number("vocab_size", vocabulary),
      { key: "llama.attention.layer_norm_rms_epsilon", type: "float32", value: 1e-5 },
    ],
    tensors,
  });
}

function withoutFree({ devices, ...plan }: Plan) {
  return { ...plan, devices: devices.map((device) => ({ ...device, free: 0 })) };
}

describe("memory that there is not", () => {
  it("is refused before it is asked for, with what would help", async () => {
    await assert.rejects(loadModel(large, { ...CPU, contextLength: 1_000_000_000 }), (error) => {
      coldstartError("OUT_OF_MEMORY", /CPU needs .* TiB and has .* 1\. contextLength.* 2\. kvCache.* 3\. /)(error);
      const { plan } = (error as { details: { plan: Plan } }).details;
      assert.equal(plan.fits, false);
      return true;
    });
  });

  it('makes do with less, with onOutOfMemory: "retry", and says what it changed', async () => {
    const limits = { CPU: 60 * 2 ** 20 };
    const options: LoadOptions = { ...CPU, contextLength: 32_768, memory: { limits }, onOutOfMemory: "retry" };
    await withModel({ path: large, ...options }, ({ placement }) => {
      assert.ok(placement.contextLength < 32_768);
      const changes = `batchSize 64, kvCache q8_0, contextLength ${placement.contextLength}`;
      assert.match(placement.notes[0]!, new RegExp(`Memory was refused .*loaded after: ${changes}`, "s"));
      assert.equal(placement.reasons.contextLength, "memory was refused");
      return Promise.resolve();
    });
  });

  it("is no reason to retry for ever", async () => {
    const limits = { CPU: 1 };
    const options: LoadOptions = { ...CPU, loadMode: "copy", memory: { limits }, onOutOfMemory: "retry" };
    await assert.rejects(loadModel(large, options), coldstartError("OUT_OF_MEMORY"));
  });

  it("falls back with a note, or with strict not at all", async () => {
    const limits = { CPU: 40 * 2 ** 20 };
    await withModel({ path: large, ...CPU, memory: { limits } }, ({ placement }) => {
      assert.ok(placement.contextLength < 8192);
      assert.match(placement.notes.join(), /contextLength is \d+ instead of 8192: memory/);
      return Promise.resolve();
    });
    const strict = { ...CPU, memory: { limits }, strict: true };
    await assert.rejects(loadModel(large, strict), coldstartError("OUT_OF_MEMORY", /instead of 8192/));
    await assert.rejects(
      loadModel(TINY_STORIES, { ...CPU, loadMode: "mmap", memory: { limits: { CPU: 3 * 2 ** 20 } }, strict: true }),
      coldstartError("OUT_OF_MEMORY", /read from the disk again and again/),
    );
  });

  it("that the system refuses between plan and load is survived", async function () {
    if (process.platform !== "linux") this.skip();
    // Another program takes all memory: here, the process may not take more, which the plan cannot know.
    const output = await inProcess(
      `import { execFileSync } from "node:child_process";
       import { readFileSync } from "node:fs";
       import { loadModel } from "./lib/index.ts";
       const file = ${JSON.stringify(large)};
       await (await loadModel(file, { gpuLayers: 0 })).dispose();
       const used = Number(/VmSize:\\s+(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]) * 1024;
       execFileSync("prlimit", ["--pid", String(process.pid), "--as=" + (used + 150 * 2 ** 20)]);
       const options = { gpuLayers: 0, contextLength: 32768, loadMode: "copy" };
       const error = await loadModel(file, options).catch((error) => error);
       console.log(error.code, Boolean(error.details.plan.fits), /1\\. contextLength/.test(error.message));
       const model = await loadModel(file, { ...options, onOutOfMemory: "retry" });
       console.log(model.placement.notes[0]);
       console.log((await model.generate("a b", { temperature: 0, maxTokens: 4 }).result).tokens.length);
       await model.dispose();`,
    );
    const [refused, note, tokens] = output.trim().split("\n");
    assert.equal(refused, "OUT_OF_MEMORY true true");
    assert.match(note!, /Memory was refused .*loaded after/);
    assert.equal(tokens, "4");
  });
});
