// The most likely tokens selected on a GPU (gpuSampling). The truth is what the CPU picks from all logits.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import {
  listDevices,
  loadModel,
  planModel,
  type GenerateOptions,
  type LoadOptions,
  type Model,
  type Plan,
} from "../../lib/index.js";
import { coldstartError } from "../support/errors.js";
import { rewriteGguf, type GgufDraft } from "../support/gguf-writer.js";
import { PROMPT, TINY_STORIES, withModel } from "../support/models.js";

const PROMPTS = ["Once upon a time, there was a", "One day, Tom", "The cat and the"];

/** Requests that the largest logits are enough for. */
const FEW: Record<string, GenerateOptions> = {
  "the defaults": {},
  "the most likely token": { temperature: 0 },
  "topK 1": { topK: 1 },
  "topK 5, hot": { topK: 5, temperature: 3 },
  "as many as can be": { topK: 63, topP: 1, minP: 0, temperature: 2 },
  "typicalP and xtc": { typicalP: 0.6, xtc: { probability: 0.5, threshold: 0.05 }, temperature: 1.5 },
};

/** Requests that need all. */
const ALL: Record<string, GenerateOptions> = {
  "no topK": { topK: 0, temperature: 1.5 },
  "a topK beyond": { topK: 64, temperature: 1.5 },
  "log-probabilities": { logprobs: 5 },
  "a bias": { logitBias: { 300: 3, 2: -Infinity } },
  "a grammar": { grammar: "root ::= [a-z ]+" },
  "a penalty": { repeatPenalty: 1.3 },
  dry: { dry: { multiplier: 1 } },
  mirostat: { mirostat: { version: 2 } },
};

describe("gpuSampling", () => {
  let folder: string;
  let onGpu: LoadOptions;
  /** Of the same GPU, with its logits: the last bits of the CPU's are others. */
  let copied: Model;
  let selected: Model;

  before(async () => {
    const [gpu] = (await listDevices()).filter(({ type }) => type !== "cpu");
    // Of what is known of a prompt, and of who else is computed, the last bits of logits depend.
    onGpu = {
      devices: [gpu!.name],
      gpuLayers: "max",
      threads: 2,
      parallel: 16,
      contextLength: 128,
      prefixCache: false,
    };
    folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-gpu-sampling-"));
    copied = await loadModel(TINY_STORIES, onGpu);
    selected = await loadModel(TINY_STORIES, { ...onGpu, gpuSampling: true });
  });
  after(async () => {
    await Promise.all([copied, selected].map((model) => model.dispose()));
    rmSync(folder, { recursive: true });
  });

  function changed(edit: (draft: GgufDraft) => void): string {
    const file = path.join(folder, "changed.gguf");
    writeFileSync(file, rewriteGguf(readFileSync(TINY_STORIES), edit));
    return file;
  }

  /** Generates with `model`, and how many tokens came from what the GPU selected. */
  async function counted(model: Model, prompt: string, options: GenerateOptions) {
    const before = await gpuSampled(model);
    const { tokens, logprobs, finishReason } = await model.generate(prompt, { maxTokens: 12, ...options }).result;
    // An end of text is chosen, too, and is no token of the answer.
    const chosen = tokens.length + (finishReason === "stop" ? 1 : 0);
    return { tokens, logprobs, chosen, few: (await gpuSampled(model)) - before };
  }

  /** The status is that of the last step once the engine has nothing to do. */
  async function gpuSampled(model: Model): Promise<number> {
    while (model.status().running > 0) await new Promise((resolve) => setTimeout(resolve, 1));
    return model.status().gpuSampled;
  }

  it("leaves all logits to texts that are scored, beside generations", async () => {
    const text = " girl named Ivy. She loved to play with her green bell.";
    const alone = await copied.score(text, { given: PROMPTS[0]! });
    const [score, ...generated] = await Promise.all([
      selected.score(text, { given: PROMPTS[0]! }),
      ...PROMPTS.map((prompt) => selected.generate(prompt, { maxTokens: 20, seed: 1 }).result),
    ]);
    score.logprobs.forEach((logprob, i) => assert.ok(Math.abs(logprob - alone.logprobs[i]!) < 2e-2, `${i}`));
    assert.ok(generated.every(({ tokens }) => tokens.length > 0));
  });

  it("is off unless asked for, and placement says so", () => {
    assert.deepEqual([copied.placement.gpuSampling, selected.placement.gpuSampling], [false, true]);
    assert.deepEqual(selected.placement.notes, []);
  });

  it("says when it cannot be", async () => {
    const elsewhere: LoadOptions[] = [
      { gpuLayers: 0 },
      { gpuLayers: "max", tensorOverrides: [{ pattern: "ffn_down", device: "CPU" }] },
    ];
    for (const options of elsewhere) {
      await withModel({ ...onGpu, ...options, gpuSampling: true }, ({ placement }) => {
        assert.equal(placement.gpuSampling, false);
        assert.match(placement.notes.join(), /gpuSampling is not used/);
        return Promise.resolve();
      });
    }
  });

  it("gives the CPU's tokens at temperature 0", async () => {
    await withModel({ gpuLayers: 0 }, async (cpu) => {
      for (const prompt of PROMPTS) {
        const options = { temperature: 0, maxTokens: 24 };
        const { tokens } = await cpu.generate(prompt, options).result;
        const found = await counted(selected, prompt, options);
        assert.deepEqual(found.tokens, tokens);
        assert.equal(found.few, found.chosen);
      }
    });
  });

  for (const [name, options] of Object.entries(FEW)) {
    it(`gives the tokens of the seed with ${name}`, async () => {
      for (const [seed, prompt] of PROMPTS.entries()) {
        const expected = await counted(copied, prompt, { ...options, seed });
        const found = await counted(selected, prompt, { ...options, seed });
        assert.deepEqual(found.tokens, expected.tokens);
        assert.deepEqual([expected.few, found.few], [0, found.chosen]);
      }
    });
  }

  for (const [name, options] of Object.entries(ALL)) {
    it(`looks at all tokens with ${name}`, async () => {
      for (const [seed, prompt] of PROMPTS.entries()) {
        const expected = await counted(copied, prompt, { ...options, seed });
        const found = await counted(selected, prompt, { ...options, seed });
        assert.deepEqual([found.tokens, found.logprobs], [expected.tokens, expected.logprobs]);
        assert.equal(found.few, 0);
      }
    });
  }

  it("draws from the distribution that the CPU's logits define", async () => {
    const DRAWS = 500;
    const [prompt] = PROMPTS as [string];
    const temperature = 2;
    const topK = 5;
    const best = await withModel({ gpuLayers: 0 }, async (cpu) => {
      const { logprobs } = await cpu.generate(prompt, { temperature: 0, maxTokens: 1, logprobs: topK }).result;
      return logprobs![0]!.top.map(({ token, logprob }) => ({ token, weight: Math.exp(logprob / temperature) }));
    });
    const total = best.reduce((sum, { weight }) => sum + weight, 0);
    const counts = new Map<number, number>();
    const options = { topK, topP: 1, minP: 0, temperature, maxTokens: 1 };
    const draws = Array.from({ length: DRAWS }, (_, seed) => ({ ...options, seed }));
    await withModel({ ...onGpu, prefixCache: true, gpuSampling: true }, async (model) => {
      const results = await Promise.all(draws.map((draw) => model.generate(prompt, draw).result));
      for (const { tokens } of results) counts.set(tokens[0]!, (counts.get(tokens[0]!) ?? 0) + 1);
      assert.equal(await gpuSampled(model), DRAWS);
    });
    assert.equal(counts.size, topK);
    const chiSquare = best.reduce((sum, { token, weight }) => {
      const expected = (weight / total) * DRAWS;
      return sum + ((counts.get(token) ?? 0) - expected) ** 2 / expected;
    }, 0);
    assert.ok(chiSquare < 18.5, `${chiSquare}`); // the 99.9 % quantile with 4 degrees
  });

  it("serves both kinds of requests at the same time", async () => {
    // In company, the last bits of logits are others: what is most likely by far stays so.
    const kinds: GenerateOptions[] = [
      { temperature: 0 },
      { topK: 1 },
      { topK: 20, temperature: 0.01 },
      { temperature: 0, logprobs: 3 },
      { topK: 1, repeatPenalty: 1.1 },
      { topK: 0, temperature: 0.01 },
      { temperature: 0, grammar: "root ::= [a-zA-Z ,.]+" },
    ];
    const requests = kinds.flatMap((options, i) =>
      PROMPTS.map((prompt, k) => ({ prompt, options: { seed: k, ...options, maxTokens: 3 + i + 4 * k } })),
    );
    const alone = [];
    for (const { prompt, options } of requests) alone.push((await copied.generate(prompt, options).result).tokens);
    const before = await gpuSampled(selected);
    const together = await Promise.all(
      requests.map(async ({ prompt, options }) => (await selected.generate(prompt, options).result).tokens),
    );
    assert.deepEqual(together, alone);
    const few = (await gpuSampled(selected)) - before;
    assert.ok(few < alone.flat().length / 2, `${few} of ${alone.flat().length}`);
  });

  it("takes the first of equal tokens, as the CPU does", async () => {
    const equal = changed((draft) => draft.fillTensor("output.weight", 0));
    const options = { maxTokens: 6, topK: 5, seed: 3 };
    const run = (gpuSampling: boolean) =>
      withModel({ ...onGpu, path: equal, gpuSampling }, async (model) => ({
        greedy: (await model.generate(PROMPT, { ...options, temperature: 0 }).result).tokens,
        drawn: (await model.generate(PROMPT, options).result).tokens,
        few: await gpuSampled(model),
      }));
    const expected = await run(false);
    assert.deepEqual(await run(true), expected);
    assert.deepEqual(new Set(expected.greedy), new Set([0]));
  });

  it("notices a single logit that is not a number", async () => {
    const damaged = changed((draft) => {
      const { data, shape } = draft.tensor("output.weight");
      new DataView(data.buffer, data.byteOffset).setFloat32(4 * 200 * Number(shape[0]), NaN, true);
    });
    await withModel({ ...onGpu, path: damaged, gpuSampling: true }, async (model) => {
      assert.ok(model.placement.gpuSampling);
      for (const options of [{}, { temperature: 0 }]) {
        await assert.rejects(
          model.generate(PROMPT, options).result,
          coldstartError("NUMERIC_ERROR", /logit 200 is NaN/),
        );
      }
    });
  });

  const ways: Record<string, LoadOptions> = {
    "guesses are checked": { speculative: { type: "lookup", match: 1, draftTokens: 6 } },
    "a draft model guesses": { speculative: { type: "draft", model: TINY_STORIES } },
    "sequences have pools of their own": { kvCache: { layout: "split" }, parallel: 4 },
    "results are deterministic": { deterministic: true, parallel: 4 },
    "generations give way to each other": { kvCache: { capacity: 256 } },
    "the model is in a process of its own": { isolation: "process" },
  };
  for (const [name, options] of Object.entries(ways)) {
    it(`gives the same tokens where ${name}`, async () => {
      const run = (gpuSampling: boolean) =>
        withModel({ ...onGpu, ...options, gpuSampling }, async (model) => {
          const text = { maxTokens: 40, temperature: options.deterministic ? 1 : 0 };
          const results = await Promise.all(
            [...PROMPTS, ...PROMPTS].map((prompt, seed) => model.generate(prompt, { ...text, seed }).result),
          );
          return { tokens: results.map(({ tokens }) => tokens), few: await gpuSampled(model) };
        });
      const expected = await run(false);
      const found = await run(true);
      assert.deepEqual(found.tokens, expected.tokens);
      // Split pools are computed at once only where those at work lie side by side.
      const least = name.includes("pools") ? 1 : found.tokens.flat().length;
      assert.ok(expected.few === 0 && found.few >= least, `${found.few} of ${found.tokens.flat().length}`);
    });
  }

  it("goes on with texts that were saved", async () => {
    const tell = async (model: Model) => {
      const session = model.session();
      await session.generate(PROMPT, { seed: 1, maxTokens: 10 }).result;
      const snapshot = await session.snapshot();
      const copy = model.session();
      await copy.restore(snapshot);
      return (await copy.generate(" and", { seed: 2, maxTokens: 20 }).result).tokens;
    };
    assert.deepEqual(await tell(selected), await tell(copied));
  });

  it("is part of the plan", async () => {
    const plan = await planModel(TINY_STORIES, { ...onGpu, gpuSampling: true });
    const bytes = ({ devices }: Plan) => devices.map(({ name, compute }) => [name, Math.round(compute / 1024)]);
    assert.deepEqual(bytes(plan), bytes(selected.placement));
  });

  it("outlives cancelled, refused and mixed requests in any order", async () => {
    const kinds = [...Object.values(FEW), ...Object.values(ALL)];
    const settled = await Promise.allSettled(
      Array.from({ length: 100 }, (_, i) => {
        const options = { ...kinds[(i * 7) % kinds.length], seed: i, maxTokens: 1 + ((i * 5) % 23) };
        const generation = selected.generate(PROMPTS[i % PROMPTS.length]!, options);
        if (i % 4 === 0) setTimeout(() => generation.cancel(), i);
        return generation.result;
      }),
    );
    assert.ok(settled.every(({ status }) => status === "fulfilled"));
    const found = await counted(selected, PROMPT, { temperature: 0 });
    assert.deepEqual(found.tokens, (await counted(copied, PROMPT, { temperature: 0 })).tokens);
    assert.equal(found.few, found.chosen);
  });
});
