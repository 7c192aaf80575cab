// The AI SDK's own functions on our models.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { embed, embedMany, generateText, isStepCount, Output, rerank, streamText, tool } from "ai";
import * as z from "zod";
import { createColdstart, embeddingModel, languageModel } from "../../lib/ai-sdk/index.js";
import { loadModel, ModelPool, type AnswerOptions, type Model } from "../../lib/index.js";
import { TINY_ENCODER, randomEncoder } from "../support/embedding-model.js";
import { root, TINY_STORIES } from "../support/models.js";
import { randomPicture, randomProjector } from "../support/random-projector.js";
import { temporaryFolder } from "../support/temporary-folder.js";

const template = (name: string) =>
  readFileSync(path.join(root, "deps", "llama.cpp", "models", "templates", `${name}.jinja`), "utf8");
const CHATML: AnswerOptions = { chatTemplate: template("Qwen-Qwen2.5-7B-Instruct") };
const THINKING: AnswerOptions = { chatTemplate: template("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B") };
/** Where a call has to come, it comes at once. */
const CALLING: AnswerOptions = {
  chatTemplate: template("CohereForAI-c4ai-command-r-plus-tool_use"),
  parallelToolCalls: false,
};

describe("AI SDK", function () {
  this.timeout(60_000);
  const folder = temporaryFolder();
  let model: Model;
  before(async () => {
    model = await loadModel(TINY_STORIES, { threads: 1, contextLength: 4096, seed: 3 });
  });
  after(() => model.dispose());

  const weather = tool({
    description: "The weather",
    inputSchema: z.object({ city: z.enum(["Rome", "Paris"]) }),
    execute: ({ city }) => ({ city, rain: city === "Rome" }),
  });

  it("generates texts", async () => {
    const { text, finishReason, usage, warnings } = await generateText({
      model: languageModel(model, CHATML),
      instructions: "You tell stories.",
      prompt: "Tell me one.",
      maxOutputTokens: 20,
      seed: 5,
      temperature: 0.7,
      stopSequences: ["Zoe"],
    });
    const messages = [
      { role: "system" as const, content: "You tell stories." },
      { role: "user" as const, content: "Tell me one." },
    ];
    const own = await model.answer(messages, { ...CHATML, maxTokens: 20, seed: 5, temperature: 0.7, stop: "Zoe" })
      .result;
    assert.equal(text, own.message.content);
    assert.equal(finishReason, own.finishReason === "length" ? "length" : "stop");
    assert.equal(usage.outputTokens, own.usage.completionTokens);
    assert.equal(usage.inputTokens, own.usage.promptTokens);
    assert.deepEqual(warnings ?? [], []);
  });

  it("reads images", async () => {
    writeFileSync(folder.path("mmproj.gguf"), randomProjector("mlp", model.info.embeddingLength));
    const sees = await loadModel(TINY_STORIES, { threads: 1, contextLength: 1024, mmproj: folder.path("mmproj.gguf") });
    try {
      const [one, two] = [randomPicture(64, 48, 1), randomPicture(64, 48, 2)];
      const ask = async (data: Uint8Array) => {
        const { text, usage } = await generateText({
          model: languageModel(sees, CHATML),
          messages: [
            {
              role: "user",
              content: [
                { type: "text", text: "What is it?" },
                { type: "file", mediaType: "image/bmp", data },
              ],
            },
          ],
          maxOutputTokens: 8,
          temperature: 0,
        });
        return [text, usage.inputTokens] as const;
      };
      const own = (data: Uint8Array) =>
        sees.answer(
          [
            {
              role: "user",
              content: [
                { type: "text", text: "What is it?" },
                { type: "image", data },
              ],
            },
          ],
          {
            ...CHATML,
            maxTokens: 8,
            temperature: 0,
          },
        ).result;
      for (const data of [one, two]) {
        const expected = await own(data);
        assert.deepEqual(await ask(data), [expected.message.content, expected.usage.promptTokens]);
      }
    } finally {
      await sees.dispose();
    }
  });

  it("streams them, thoughts too", async () => {
    const settings = { ...THINKING, thinking: { budget: 8 }, logitBias: { 2: -Infinity } };
    const { stream, text, finalStep, usage } = streamText({
      model: languageModel(model, settings),
      prompt: "Tell me one.",
      maxOutputTokens: 40,
      seed: 1,
    });
    const types: string[] = [];
    for await (const { type } of stream) if (types.at(-1) !== type) types.push(type);
    const order = ["reasoning-start", "reasoning-delta", "reasoning-end", "text-start", "text-delta", "text-end"];
    assert.deepEqual(
      types.filter((type) => order.includes(type)),
      order,
    );
    assert.ok((await text).length > 10);
    assert.ok(((await finalStep).reasoningText ?? "").length > 10);
    assert.equal((await usage).outputTokens, 40);
  });

  it("calls tools, and goes on with what they give", async () => {
    const calling = {
      model: languageModel(model, CALLING),
      tools: { get_weather: weather },
      seed: 5,
      maxOutputTokens: 200,
    };
    const { steps } = await generateText({
      ...calling,
      prompt: "Rain in Rome?",
      toolChoice: "required",
      stopWhen: isStepCount(2),
    });
    const [first] = steps;
    assert.equal(first?.finishReason, "tool-calls");
    assert.equal(first.toolCalls[0]?.toolName, "get_weather");
    const [given] = first.toolResults;
    assert.ok(given && !given.dynamic);
    assert.deepEqual(given.output, { city: given.input.city, rain: given.input.city === "Rome" });
    assert.equal(steps.length, 2);

    const { stream, toolCalls } = streamText({ ...calling, prompt: "Rain?", toolChoice: "required" });
    let input = "";
    for await (const part of stream) if (part.type === "tool-input-delta") input += part.delta;
    assert.deepEqual(JSON.parse(input), (await toolCalls)[0]?.input);
  });

  it("gives objects", async () => {
    const schema = z.object({ name: z.string().max(8), age: z.int().min(1).max(9) });
    const { output } = await generateText({
      model: languageModel(model, CHATML),
      prompt: "Who?",
      output: Output.object({ schema }),
      seed: 2,
      maxOutputTokens: 200,
    });
    assert.deepEqual(schema.parse(output), output);
    // With tools, once they have been called.
    const both = await generateText({
      model: languageModel(model, CALLING),
      tools: { get_weather: weather },
      prompt: "Rain?",
      toolChoice: "required",
      prepareStep: ({ stepNumber }) => (stepNumber === 0 ? {} : { toolChoice: "auto" }),
      stopWhen: isStepCount(3),
      output: Output.object({ schema }),
      seed: 5,
      maxOutputTokens: 300,
    });
    assert.equal(both.steps[0]?.finishReason, "tool-calls");
    if (both.steps.at(-1)?.finishReason === "stop") schema.parse(both.output);
  });

  it("ends when it is aborted", async () => {
    const abort = new AbortController();
    const { textStream } = streamText({
      model: languageModel(model, { ...CHATML, logitBias: { 2: -Infinity } }),
      prompt: "Tell me one.",
      maxOutputTokens: 3000,
      abortSignal: abort.signal,
    });
    let pieces = 0;
    for await (const _ of textStream) if (++pieces === 3) abort.abort();
    assert.ok(pieces < 2000);
    const aborted = generateText({
      model: languageModel(model, CHATML),
      prompt: "x",
      abortSignal: AbortSignal.abort(),
    });
    await assert.rejects(aborted, /abort/i);
    while (model.status().running > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  });

  it("embeds, and takes models of a pool by their names", async () => {
    const [encoder, reranker] = [folder.path("encoder.gguf"), folder.path("reranker.gguf")];
    writeFileSync(encoder, randomEncoder(TINY_ENCODER));
    writeFileSync(reranker, randomEncoder({ ...TINY_ENCODER, pooling: 4 }));
    const load = { threads: 1, gpuLayers: 0 };
    await using pool = new ModelPool({
      models: {
        encoder: { path: encoder, ...load },
        reranker: { path: reranker, ...load },
        stories: { path: TINY_STORIES, ...load },
      },
      maxLoaded: 2,
    });
    const coldstart = createColdstart(pool);
    const values = ["the dog", "a happy girl", "the house"];
    const { embeddings, usage } = await embedMany({ model: coldstart.embeddingModel("encoder"), values });
    const own = await pool.use("encoder", (one) => one.embed(values));
    assert.deepEqual(
      embeddings,
      own.vectors.map((vector) => [...vector]),
    );
    assert.equal(
      usage.tokens,
      own.tokens.reduce((a, b) => a + b),
    );
    const { ranking } = await rerank({
      model: coldstart.rerankingModel("reranker"),
      query: "the dog",
      documents: values,
      topN: 2,
    });
    assert.equal(ranking.length, 2);
    const { text } = await generateText({ model: coldstart("stories", CHATML), prompt: "x", maxOutputTokens: 5 });
    assert.ok(text.length > 0);
    assert.ok(pool.list().every(({ users }) => users === 0));
    const { embedding } = await embed({ model: embeddingModel(model), value: "One day," });
    assert.equal(embedding.length, 128);
    await assert.rejects(generateText({ model: coldstart("none"), prompt: "x", maxRetries: 0 }), /one of "encoder"/);
  });
});
