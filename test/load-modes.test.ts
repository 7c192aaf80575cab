import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { loadModel, type LoadOptions } from "../lib/index.js";
import { native } from "../lib/native.js";
import { coldstartError } from "./support/errors.js";
import { readGgufForRewrite, writeGguf, type GgufEntry } from "./support/gguf-writer.js";
import { PROMPT, root, TINY_STORIES, withModel } from "./support/models.js";
import { Q4_0, randomModel } from "./support/random-model.js";

const MODES: LoadOptions[] = [
  { loadMode: "auto" },
  { loadMode: "mmap" },
  { loadMode: "mmap", prefetch: false },
  { loadMode: "copy" },
  { loadMode: "copy", prefetch: false },
  { loadMode: "direct" },
];

const greedy = (options: LoadOptions & { path?: string }) =>
  withModel({ contextLength: 128, ...options }, (model) =>
    model.generate(PROMPT, { temperature: 0, maxTokens: 24 }).text(),
  );

describe("load modes", () => {
  let folder: string;
  /** 30 MB in 4 bits, which CPUs rearrange: several requests' worth of reading ahead. */
  let quantized: string;

  before(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-load-modes-"));
    quantized = path.join(folder, "quantized.gguf");
    const shape = { type: Q4_0, vocabulary: 8192, width: 512, feedForward: 2048, layers: 10, heads: 8 } as const;
    writeFileSync(quantized, randomModel({ ...shape, keyValueHeads: 8, contextLength: 256, tied: false }));
  });
  after(() => rmSync(folder, { recursive: true }));

  it("all give the same tokens, from the disk too", async () => {
    for (const file of [TINY_STORIES, quantized]) {
      const texts = new Set<string>();
      for (const options of MODES) {
        await native().forgetFile(file);
        texts.add(await greedy({ path: file, ...options }));
      }
      assert.equal(texts.size, 1, file);
    }
  });

  it("are told, and auto is one of them", async () => {
    for (const options of MODES) {
      await withModel(options, async ({ placement }) => {
        const { loadMode, prefetch } = placement;
        if (process.platform === "linux") assert.equal(prefetch, loadMode !== "direct" && options.prefetch !== false);
        if (options.loadMode === "auto") assert.ok(["mmap", "copy"].includes(loadMode));
        // Where there are no direct reads, a note says so.
        else if (loadMode !== options.loadMode) assert.match(placement.notes.join(), /loadMode is direct, and/);
      });
    }
  });

  /** The embedded model in three files, as llama-gguf-split makes them. */
  function split(): string {
    const whole = readGgufForRewrite(readFileSync(TINY_STORIES));
    const third = Math.ceil(whole.tensors.length / 3);
    mkdirSync(path.join(folder, "split"));
    const files = [1, 2, 3].map((part) => {
      const file = path.join(folder, "split", `model-0000${part}-of-00003.gguf`);
      const metadata: GgufEntry[] = [
        ...(part === 1 ? whole.metadata : []),
        { key: "split.no", type: "uint16", value: part - 1 },
        { key: "split.count", type: "uint16", value: 3 },
        { key: "split.tensors.count", type: "int32", value: whole.tensors.length },
      ];
      writeFileSync(file, writeGguf({ metadata, tensors: whole.tensors.slice((part - 1) * third, part * third) }));
      return file;
    });
    return files[0]!;
  }

  it("load a split model", async () => {
    const first = split();
    assert.equal((await native().modelFiles(first)).length, 3);
    const expected = await greedy({});
    for (const options of MODES) assert.equal(await greedy({ path: first, ...options }), expected);
  });

  it("can be given up at any time", async () => {
    for (const options of MODES) {
      // At once, and at the first progress, whenever that comes.
      for (const early of [true, false]) {
        await native().forgetFile(quantized);
        const controller = new AbortController();
        const loading = loadModel(quantized, {
          ...options,
          signal: controller.signal,
          onProgress: () => controller.abort(),
        });
        if (early) controller.abort();
        await assert.rejects(loading, coldstartError("ABORTED"));
      }
    }
  });

  it("report progress that does not fall, with reading ahead", async () => {
    await native().forgetFile(quantized);
    const seen: number[] = [];
    await withModel({ path: quantized, loadMode: "mmap", onProgress: (fraction) => seen.push(fraction) }, async () => {
      assert.equal(seen.at(-1), 1);
      assert.deepEqual(
        seen,
        seen.toSorted((a, b) => a - b),
      );
    });
  });

  it("say so when the system does not lock the weights", async function () {
    if (process.platform !== "linux") this.skip();
    const script = `
      const { loadModel } = await import(${JSON.stringify(pathToFileURL(path.join(root, "dist/index.js")).href)});
      const model = await loadModel(${JSON.stringify(TINY_STORIES)}, { mlock: true });
      console.log(model.placement.notes.join());
      await model.dispose();`;
    const limited = ["sh", "-c", `ulimit -l 64 && exec "$0" --input-type=module -e "$1"`, process.execPath, script];
    // Root may lock whatever the limit.
    const [command = "", ...args] =
      process.getuid?.() === 0 ? ["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock", ...limited] : limited;
    const { stdout } = await promisify(execFile)(command, args).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") this.skip();
      throw error;
    });
    assert.match(stdout, /mlock is true, and the system did not lock all weights/);
  });
});

describe("bandwidth", () => {
  const plausible = (bytesPerSecond: number) => Number.isFinite(bytesPerSecond) && bytesPerSecond > 1e5;

  it("of a disk is measured with a file, and with a directory, which is left as it was", async () => {
    const folder = mkdtempSync(path.join(root, "build", "bandwidth-"));
    try {
      assert.ok(plausible(await native().measureDiskBandwidth(TINY_STORIES)));
      assert.ok(plausible(await native().measureDiskBandwidth(folder)));
    } finally {
      rmdirSync(folder); // Which fails if anything is in it.
    }
  });

  it("of what is not there is an error", () =>
    assert.rejects(native().measureDiskBandwidth("/no/such/folder"), coldstartError("MODEL_NOT_FOUND")));

  it("of memory is measured with any number of threads", async () => {
    for (const threads of [1, 2, 3]) assert.ok(plausible(await native().measureMemoryBandwidth(threads)));
  });
});
