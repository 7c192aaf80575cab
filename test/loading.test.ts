import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { inspectGguf, listDevices, loadModel, version, type Model } from "../lib/index.js";
import { coldstartError } from "./support/errors.js";
import { PROMPT, root, TINY_STORIES, withModel } from "./support/models.js";

/** Mappings of `file` in this process, from /proc/self/smaps, in KiB. */
function mappings(file: string): { rss: number; pss: number }[] {
  const found = [];
  for (const block of readFileSync("/proc/self/smaps", "utf8").split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/)) {
    if (!block.split("\n")[0]!.endsWith(file)) continue;
    const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(block)![1]);
    found.push({ rss: kib("Rss"), pss: kib("Pss") });
  }
  return found;
}

describe("loadModel", () => {
  it("tells what the model is", async () => {
    await withModel({}, async ({ info }) => {
      const { metadata, ...facts } = info;
      assert.deepEqual(facts, {
        path: TINY_STORIES,
        adapters: [],
        architecture: "llama",
        name: "coldstart tiny-stories",
        description: "llama ?B all F32",
        parameters: 951_424,
        quantization: "all F32",
        weightBytes: 3_805_696,
        contextLength: 256,
        layers: 4,
        embeddingLength: 128,
        generates: true,
        images: false,
        audio: false,
        pooling: undefined,
        vocabulary: { size: 640, type: "llama", bos: 1, eos: 2 },
        chatTemplate: undefined,
      });
      assert.equal(metadata["llama.feed_forward_length"], 384);
      assert.equal((metadata["tokenizer.ggml.tokens"] as { length: number }).length, 640);
    });
  });

  it("tells where the model is", async () => {
    await withModel({ contextLength: 512, kvCache: { keyType: "f32", valueType: "f32" } }, async ({ placement }) => {
      assert.equal(placement.contextLength, 512);
      assert.equal(placement.gpuLayers, 0);
      assert.equal(placement.threads, 1);
      const [cpu] = placement.devices;
      assert.equal(cpu!.name, "CPU");
      assert.equal(cpu!.weights, 3_805_696);
      // Keys and values: 4 layers, 512 cells, 4 heads of 16, 4 bytes.
      assert.equal(cpu!.kvCache, 2 * 4 * 512 * 4 * 16 * 4);
      assert.ok(cpu!.compute > 0 && cpu!.free > 0 && cpu!.free <= cpu!.total);
      assert.match(placement.notes[0]!, /trained for 256/);
    });
  });

  it("reports progress from 0 to 1", async () => {
    const seen: number[] = [];
    await withModel({ loadMode: "copy", onProgress: (fraction) => seen.push(fraction) }, async () => {
      assert.equal(seen.at(-1), 1);
      assert.deepEqual(
        seen,
        [...seen].sort((a, b) => a - b),
      );
    });
  });

  it("takes file URLs", () =>
    withModel({ path: pathToFileURL(TINY_STORIES) as unknown as string }, async () => undefined));

  it("stops when its signal aborts, with the signal's reason as cause", async () => {
    await assert.rejects(loadModel(TINY_STORIES, { signal: AbortSignal.abort("why") }), coldstartError("ABORTED"));
    const controller = new AbortController();
    const loading = loadModel(TINY_STORIES, { signal: controller.signal });
    controller.abort(new Error("changed my mind"));
    await assert.rejects(loading, (error: Error) => {
      assert.equal((error.cause as Error).message, "changed my mind");
      return coldstartError("ABORTED")(error);
    });
  });

  it("stops with the error that onProgress throws", async () => {
    const onProgress = () => {
      throw new RangeError("from the callback");
    };
    await assert.rejects(loadModel(TINY_STORIES, { onProgress }), /from the callback/);
  });

  it("says so when there is no GPU for the layers asked for", async function () {
    if ((await listDevices()).some(({ type }) => type === "gpu")) this.skip();
    const warnings: Error[] = [];
    const listen = (warning: Error) => warnings.push(warning);
    process.on("warning", listen);
    await withModel({ gpuLayers: "max" }, async ({ placement }) => {
      assert.match(placement.notes.join(), /gpuLayers is max, and no GPU was found/);
      await new Promise(setImmediate);
      assert.ok(warnings.some(({ name, message }) => name === "ColdstartWarning" && message === placement.notes[0]));
    });
    process.off("warning", listen);
  });

  it("loads with every type of KV cache, without flash attention, and checked", async () => {
    for (const type of ["f32", "f16", "bf16"] as const) {
      await withModel(
        { kvCache: { keyType: type, valueType: type }, flashAttention: false, checkTensors: true },
        async (model) => {
          assert.match(await model.generate(PROMPT, { temperature: 0 }).text(), /\.$/);
        },
      );
    }
  });

  describe("mmap", () => {
    before(function () {
      if (process.platform !== "linux") this.skip(); // It reads /proc.
    });

    it("is what weights are loaded by that no CPU rearranges, and two loads of a file share its pages", async () => {
      const models: Model[] = [];
      for (let i = 0; i < 2; i++) models.push(await loadModel(TINY_STORIES));
      assert.deepEqual(
        models.map(({ placement }) => placement.loadMode),
        ["mmap", "mmap"],
      );
      const found = mappings(TINY_STORIES);
      const rss = found.reduce((sum, mapping) => sum + mapping.rss, 0);
      const pss = found.reduce((sum, mapping) => sum + mapping.pss, 0);
      assert.ok(found.length >= 2 && rss >= 2 * 3700, "both are mapped and resident");
      assert.ok(pss < 0.6 * rss, `each page is counted half: ${pss} of ${rss} KiB`);
      await Promise.all(models.map((model) => model.dispose()));
      assert.deepEqual(mappings(TINY_STORIES), []);
    });

    it("can be off, and then nothing is mapped", async () => {
      await withModel({ loadMode: "copy" }, async () => assert.deepEqual(mappings(TINY_STORIES), []));
    });
  });
});

describe("inspectGguf", () => {
  it("reads the header alone", async () => {
    const info = await inspectGguf(TINY_STORIES);
    assert.equal(info.architecture, "llama");
    assert.equal(info.quantization, "all F32");
    assert.equal(info.parameters, 951_424);
    assert.equal(info.layers, 4);
    assert.equal(info.contextLength, 256);
    assert.equal(info.tensors.length, 39);
    assert.deepEqual(info.tensors.find(({ name }) => name === "token_embd.weight")?.shape, [128, 640]);
    assert.equal(info.dataOffset + info.weightBytes, info.fileSize);
  });

  it("cuts arrays where told", async () => {
    const values = async (options?: { arrayLimit: number }) => {
      const { metadata } = await inspectGguf(TINY_STORIES, options);
      return (metadata["tokenizer.ggml.tokens"] as { values: unknown[] }).values.length;
    };
    assert.equal(await values(), 16);
    assert.equal(await values({ arrayLimit: 0 }), 0);
    assert.equal(await values({ arrayLimit: Infinity }), 640);
  });
});

describe("the machine", () => {
  it("has a CPU", async () => {
    const cpu = (await listDevices()).find(({ type }) => type === "cpu")!;
    assert.equal(cpu.backend, "CPU");
    assert.ok(cpu.memoryFree > 0 && cpu.memoryFree <= cpu.memoryTotal);
  });

  it("knows its versions", () => {
    const manifest = JSON.parse(readFileSync(`${root}/package.json`, "utf8")) as {
      version: string;
      "llama.cpp": { release: string };
    };
    const { coldstart, llamaCpp, systemInfo } = version();
    assert.equal(coldstart, manifest.version);
    assert.equal(`v${llamaCpp}`, manifest["llama.cpp"].release);
    assert.match(systemInfo, /CPU/);
  });
});
