import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { computeImportance, evaluate, loadModel, quantizeModel } from "../lib/index.js";
import { coldstartError } from "./support/errors.js";
import { readGgufForRewrite } from "./support/gguf-writer.js";
import { runTool } from "./support/llama-tools.js";
import { PROMPT, STORIES_260K, TINY_STORIES, withModel } from "./support/models.js";
import { F16, LARGE, randomModel } from "./support/random-model.js";
import { writeStories } from "./support/stories.js";
import { temporaryFolder } from "./support/temporary-folder.js";

/** Tensors by name, as numbers. */
function tensorsOf(file: string): Map<string, { shape: string; values: Float32Array }> {
  const { tensors } = readGgufForRewrite(readFileSync(file));
  return new Map(
    tensors.map(({ name, shape, data }) => [
      name as string,
      { shape: shape.join(" x "), values: new Float32Array(Uint8Array.from(data as Uint8Array).buffer) },
    ]),
  );
}

function assertSameImportance(ours: string, theirs: string): void {
  const [actual, expected] = [tensorsOf(ours), tensorsOf(theirs)];
  assert.deepEqual([...actual.keys()].sort(), [...expected.keys()].sort());
  assert.ok(expected.size > 0);
  for (const [name, { shape, values }] of expected) {
    const own = actual.get(name)!;
    assert.equal(own.shape, shape, name);
    const largest = values.reduce((most, value) => Math.max(most, value), 0);
    values.forEach((value, i) =>
      assert.ok(
        Math.abs(own.values[i]! - value) <= 1e-3 * value + 1e-5 * largest,
        `${name}[${i}]: ${own.values[i]}, ${value}`,
      ),
    );
  }
}

describe("computeImportance()", () => {
  const folder = temporaryFolder();
  let text: string;
  before(async () => {
    text = await withModel({}, (model) => writeStories(model, 10));
  });
  beforeEach(() => writeFileSync(folder.path("text"), text));

  const models: Record<string, () => string | undefined> = {
    "the embedded model": () => TINY_STORIES,
    stories260K: () => STORIES_260K,
    "a mixture of experts": () => {
      const shape = { ...LARGE, type: F16, vocabulary: 1024, contextLength: 256, layers: 2 } as const;
      writeFileSync(folder.path("experts.gguf"), randomModel({ ...shape, experts: { count: 6, used: 2 } }));
      return folder.path("experts.gguf");
    },
  };
  for (const [name, make] of Object.entries(models)) {
    it(`measures what llama-imatrix does, of ${name}`, async function () {
      const file = make();
      if (file === undefined) return this.skip();
      const args = ["-m", file, "-f", folder.path("text"), "-c", "64", "-b", "64", "-t", "1", "--process-output"];
      await runTool("llama-imatrix", [...args, "-o", folder.path("theirs.gguf"), "--no-ppl"]);
      const result = await withModel({ path: file }, (model) =>
        computeImportance(model, text, folder.path("ours.gguf"), {
          chunkLength: 64,
          outputMatrix: true,
          datasets: ["stories"],
        }),
      );
      assert.equal(result.tokens, 64 * result.chunks);
      assertSameImportance(folder.path("ours.gguf"), folder.path("theirs.gguf"));

      // And both ways: llama-imatrix reads ours, and quantizing reads either.
      await runTool("llama-imatrix", [
        "-m",
        file,
        "--in-file",
        folder.path("ours.gguf"),
        "-o",
        folder.path("again.gguf"),
      ]);
      assertSameImportance(folder.path("again.gguf"), folder.path("ours.gguf"));
    });
  }

  it("reads pieces of a chunk, between the steps of generations, as whole ones", async () => {
    // Of so many tokens no more than 64 are read at a time.
    const shape = {
      ...LARGE,
      type: F16,
      vocabulary: 70_000,
      width: 64,
      feedForward: 128,
      layers: 2,
      contextLength: 256,
    } as const;
    writeFileSync(folder.path("wide.gguf"), randomModel(shape));
    await withModel({ path: folder.path("wide.gguf"), parallel: 2 }, async (model) => {
      const busy = model.generate(PROMPT, { maxTokens: 20 });
      const whole = computeImportance(model, text, folder.path("a.gguf"), { chunkLength: 200 });
      const alike = computeImportance(model, [text], folder.path("b.gguf"), { chunkLength: 200 });
      const [{ chunks }] = await Promise.all([whole, alike, busy.result]);
      assert.ok(chunks >= 2);
    });
    assert.deepEqual(tensorsOf(folder.path("a.gguf")), tensorsOf(folder.path("b.gguf")));
    await runTool("llama-imatrix", [
      "-m", folder.path("wide.gguf"), "-f", folder.path("text"), "-c", "200", "-b", "200", "-t", "1", "-o", folder.path("theirs.gguf"),
    ]); // prettier-ignore
    assertSameImportance(folder.path("a.gguf"), folder.path("theirs.gguf"));
  });

  it("makes few bits do more", async () => {
    await withModel({}, async (base) => {
      const calibration = await writeStories(base, 40);
      await computeImportance(base, calibration, folder.path("importance.gguf"), { chunkLength: 128 });
      const divergence = async (importanceMatrix?: string) => {
        const output = folder.path("quantized.gguf");
        await quantizeModel(TINY_STORIES, output, {
          type: "Q4_0",
          pure: true,
          ...(importanceMatrix && { importanceMatrix }),
        });
        const task = { type: "perplexity", text, chunkLength: 128, base } as const;
        const { comparison } = await withModel({ path: output }, (model) => evaluate(model, task));
        return comparison!.divergence.value;
      };
      const [plain, aware] = [await divergence(), await divergence(folder.path("importance.gguf"))];
      assert.ok(aware < plain, `${aware} with, ${plain} without`);
    });
    await withModel({ quantize: { type: "Q2_K_S", importanceMatrix: folder.path("importance.gguf") } }, async (model) =>
      assert.ok((await model.generate(PROMPT, { maxTokens: 5 }).text()).length > 0),
    );
  });

  it("works in a process of its own", async () => {
    await withModel({}, (model) => computeImportance(model, text, folder.path("here.gguf"), { chunkLength: 64 }));
    const options = { isolation: "process" } as const;
    await withModel(options, (model) => computeImportance(model, text, folder.path("apart.gguf"), { chunkLength: 64 }));
    assert.deepEqual(readFileSync(folder.path("apart.gguf")), readFileSync(folder.path("here.gguf")));
  });

  it("ends on request and leaves nothing behind", async () => {
    await withModel({}, async (model) => {
      const long = Array.from({ length: 20 }, () => text);
      const stop = new AbortController();
      const fractions: number[] = [];
      const onProgress = (fraction: number) => {
        fractions.push(fraction);
        stop.abort();
      };
      const options = { chunkLength: 32, signal: stop.signal, onProgress };
      await assert.rejects(computeImportance(model, long, folder.path("out.gguf"), options), coldstartError("ABORTED"));
      assert.ok(fractions[0]! < 1);
      const throws = () => {
        throw new RangeError("mine");
      };
      await assert.rejects(computeImportance(model, long, folder.path("out.gguf"), { onProgress: throws }), RangeError);
      assert.deepEqual(readdirSync(folder.path()), ["text"]);
      await computeImportance(model, text, folder.path("out.gguf"), { chunkLength: 32 });
    });
    const model = await loadModel(TINY_STORIES);
    const pending = computeImportance(model, text, folder.path("never.gguf"), { chunkLength: 8 });
    pending.catch(() => undefined);
    await model.dispose();
    await assert.rejects(pending, coldstartError("DISPOSED"));
  });

  it("refuses what it cannot measure", async () => {
    await withModel({}, async (model) => {
      const to = folder.path("out.gguf");
      await assert.rejects(computeImportance(model, "short", to), coldstartError("INVALID_OPTION", /a chunk 256/));
      await assert.rejects(computeImportance(model, [], to), coldstartError("INVALID_OPTION", /texts/));
      await assert.rejects(computeImportance(model, [5] as never, to), coldstartError("INVALID_OPTION", /texts/));
      await assert.rejects(computeImportance({} as never, text, to), coldstartError("INVALID_OPTION", /model/));
      const nowhere = folder.path("no", "out.gguf");
      await assert.rejects(computeImportance(model, text, nowhere), coldstartError("WRITE_FAILED"));
      await assert.rejects(
        computeImportance(model, text, to, { chunkLength: 257 }),
        coldstartError("CONTEXT_OVERFLOW", /257/),
      );
    });
  });
});
