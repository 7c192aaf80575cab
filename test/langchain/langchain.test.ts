// LangChain's own functions on our models.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { BaseCallbackHandler } from "@langchain/core/callbacks/base";
import { concat } from "@langchain/core/utils/stream";
import {
  AIMessage,
  AIMessageChunk,
  HumanMessage,
  SystemMessage,
  ToolMessage,
  type UsageMetadata,
} from "@langchain/core/messages";
import { StringOutputParser } from "@langchain/core/output_parsers";
import { ChatPromptTemplate } from "@langchain/core/prompts";
import { tool } from "@langchain/core/tools";
import * as z from "zod";
import { loadModel, ModelPool, type AnswerOptions, type ChatMessage, type Model } from "../../lib/index.js";
import { ChatColdstart } from "../../lib/langchain/index.js";
import { coldstartError } from "../support/errors.js";
import { root, TINY_STORIES } from "../support/models.js";
import { randomPicture, randomProjector } from "../support/random-projector.js";
import { temporaryFolder } from "../support/temporary-folder.js";

const template = (name: string) =>
  readFileSync(path.join(root, "deps", "llama.cpp", "models", "templates", `${name}.jinja`), "utf8");
const CHATML = { chatTemplate: template("Qwen-Qwen2.5-7B-Instruct") };
const THINKING = { chatTemplate: template("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B") };
/** Where a call has to come, it comes at once. */
const CALLING = { chatTemplate: template("CohereForAI-c4ai-command-r-plus-tool_use"), parallelToolCalls: false };

// Of @langchain/core 1.4.0, TypeScript 6 makes its type never.
const usageOf = ({ usage_metadata: usage }: AIMessage | AIMessageChunk) => usage as UsageMetadata | undefined;

class Told extends BaseCallbackHandler {
  readonly name = "told";
  readonly #tokens: string[];

  constructor(tokens: string[]) {
    super();
    this.#tokens = tokens;
  }

  override handleLLMNewToken(token: string): void {
    this.#tokens.push(token);
  }
}

describe("LangChain", function () {
  this.timeout(60_000);
  const folder = temporaryFolder();
  let model: Model;
  before(async () => {
    model = await loadModel(TINY_STORIES, { threads: 1, contextLength: 4096, seed: 3 });
  });
  after(() => model.dispose());

  const options: AnswerOptions = { temperature: 0, maxTokens: 20 };
  const messages = [new SystemMessage("You tell stories."), new HumanMessage("Tell me one.")];
  const own: ChatMessage[] = [
    { role: "system", content: "You tell stories." },
    { role: "user", content: "Tell me one." },
  ];

  it("invokes, and tells usage and reason", async () => {
    const chat = new ChatColdstart({ model, ...CHATML, ...options });
    const expected = await model.answer(own, { ...CHATML, ...options }).result;
    const message = await chat.invoke(messages);
    assert.equal(message.content, expected.message.content);
    assert.equal(usageOf(message)?.input_tokens, expected.usage.promptTokens);
    assert.equal(usageOf(message)?.output_tokens, expected.usage.completionTokens);
    assert.equal(message.response_metadata["finish_reason"], expected.finishReason);
    const less = await chat.invoke(messages, { options: { maxTokens: 3 } });
    assert.equal(usageOf(less)?.output_tokens, 3);
    const stopped = await chat.invoke(messages, { stop: [expected.message.content.slice(8, 12)] });
    assert.equal(stopped.content, expected.message.content.slice(0, 8));
    const chain = ChatPromptTemplate.fromMessages([["system", "You {what} stories."], ["human", "{said}"]])
      .pipe(chat)
      .pipe(new StringOutputParser()); // prettier-ignore
    assert.equal(await chain.invoke({ what: "tell", said: "Tell me one." }), expected.message.content);
    const batch = await chat.batch([messages, messages]);
    assert.deepEqual(batch.map(({ content }) => content), [message.content, message.content]); // prettier-ignore
  });

  it("streams, thoughts too, and what it streams is what it answers", async () => {
    for (const settings of [CHATML, THINKING]) {
      const chat = new ChatColdstart({ model, ...settings, ...options });
      const expected = await model.answer(own, { ...settings, ...options }).result;
      const chunks: AIMessageChunk[] = [];
      const told: string[] = [];
      for await (const chunk of await chat.stream(messages, {
        callbacks: [new Told(told)],
      }))
        chunks.push(chunk);
      const whole = chunks.reduce((a, b) => concat(a, b));
      assert.equal(whole.content, expected.message.content);
      assert.equal(told.join(""), expected.message.content);
      assert.equal(whole.additional_kwargs["reasoning_content"], expected.message.reasoning);
      assert.equal(usageOf(whole)?.output_tokens, expected.usage.completionTokens);
    }
  });

  it("calls tools, and goes on with what they give", async () => {
    const weather = tool(({ city }: { city: string }) => `rain in ${city}`, {
      name: "get_weather",
      description: "The weather",
      schema: z.object({ city: z.enum(["Rome", "Paris"]) }),
    });
    const chat = new ChatColdstart({ model, ...CALLING, temperature: 0, maxTokens: 300 });
    const bound = chat.bindTools([weather], { tool_choice: "any" });
    const asked = new HumanMessage("Do I need an umbrella?");
    const answer = await bound.invoke([asked]);
    const [call] = answer.tool_calls ?? [];
    assert.equal(call!.name, "get_weather");
    assert.ok(["Rome", "Paris"].includes(String(call!.args["city"])));
    const chunks: AIMessageChunk[] = [];
    for await (const chunk of await bound.stream([asked])) chunks.push(chunk);
    const whole = chunks.reduce((a, b) => concat(a, b));
    assert.deepEqual(whole.tool_calls?.map(({ name, args }) => [name, args]), [[call!.name, call!.args]]); // prettier-ignore

    const given = (await weather.invoke(call as never)) as ToolMessage;
    assert.ok(given instanceof ToolMessage);
    const next = await bound.invoke([asked, answer, given], { tool_choice: "none" });
    assert.equal(next.tool_calls?.length ?? 0, 0);
    const prompt = await model.renderChat(
      [
        { role: "user", content: "Do I need an umbrella?" },
        { role: "assistant", content: "", toolCalls: [{ id: call!.id!, name: "get_weather", arguments: call!.args }] },
        { role: "tool", toolCallId: call!.id!, name: "get_weather", content: given.text },
      ],
      CALLING,
    ); // prettier-ignore
    assert.match(prompt, /rain in (Rome|Paris)/);
    assert.ok((usageOf(next)?.input_tokens ?? 0) > (usageOf(answer)?.input_tokens ?? 0));
  });

  it("gives objects", async () => {
    const chat = new ChatColdstart({ model, ...CALLING, temperature: 0, maxTokens: 300 });
    const schema = z.object({ animal: z.enum(["cat", "dog"]), legs: z.number().int().min(1).max(9) });
    const value = await chat.withStructuredOutput(schema).invoke("An animal?");
    assert.ok(schema.safeParse(value).success, JSON.stringify(value));
  });

  it("ends when it is aborted, or left", async () => {
    const chat = new ChatColdstart({ model, ...CHATML, logitBias: { 2: -Infinity } }); // Without end.
    await assert.rejects(chat.invoke(messages, { signal: AbortSignal.timeout(20) }), { name: /Timeout|Abort/ });
    for await (const _ of await chat.stream(messages)) break;
    for (let i = 0; model.status().running > 0; i++) {
      assert.ok(i < 100, "it is still running");
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await assert.rejects(chat.invoke([new HumanMessage({ content: [{ type: "video", data: "AAAA" }] as never })]),
      coldstartError("INVALID_OPTION", /part of the type video/)); // prettier-ignore
  });

  it("reads images, and takes models of a pool", async () => {
    writeFileSync(folder.path("mmproj.gguf"), randomProjector("mlp", model.info.embeddingLength));
    const load = { threads: 1, contextLength: 1024, mmproj: folder.path("mmproj.gguf") };
    await using pool = new ModelPool({ models: { sees: { path: TINY_STORIES, ...load } } });
    const chat = new ChatColdstart({ model: { pool, name: "sees" }, ...CHATML, ...options });
    const picture = randomPicture(64, 48, 1);
    const data = picture.toString("base64");
    const forms = [
      { type: "image", data, mimeType: "image/bmp" },
      { type: "image_url", image_url: { url: `data:image/bmp;base64,${data}` } },
    ];
    const said = [];
    for (const form of forms)
      said.push(await chat.invoke([new HumanMessage({ content: [{ type: "text", text: "What?" }, form] as never })]));
    const lease = await pool.acquire("sees");
    const content = [
      { type: "text" as const, text: "What?" },
      { type: "image" as const, data: picture },
    ];
    const expected = await lease.model.answer([{ role: "user", content }], { ...CHATML, ...options }).result;
    lease.release();
    for (const message of said) {
      assert.ok(message instanceof AIMessage || message instanceof AIMessageChunk);
      assert.equal(message.content, expected.message.content);
      assert.equal(usageOf(message)?.input_tokens, expected.usage.promptTokens);
    }
  });
});
