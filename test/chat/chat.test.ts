// Conversations on the embedded model, which has read stories only: what it says is made sure of by grammars, seeds and bans.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import * as z from "zod";
import {
  defineTool,
  loadModel,
  type ChatMessage,
  type ChatOptions,
  type Model,
  type ReplyPiece,
  type Tool,
  type ToolMessage,
} from "../../lib/index.js";
import { coldstartError } from "../support/errors.js";
import { root, TINY_STORIES } from "../support/models.js";

const template = (name: string) =>
  readFileSync(path.join(root, "deps", "llama.cpp", "models", "templates", `${name}.jinja`), "utf8");
const CHATML = template("Qwen-Qwen2.5-7B-Instruct");
/** Its prompt ends in "<think>". */
const THINKING = template("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B");
/** Where a call has to come, it comes at once. */
const CALLING = template("CohereForAI-c4ai-command-r-plus-tool_use");
const END_OF_TEXT = 2;

async function collect(reply: AsyncIterable<ReplyPiece>): Promise<ReplyPiece[]> {
  const pieces: ReplyPiece[] = [];
  for await (const piece of reply) pieces.push(piece);
  return pieces;
}
const textOf = (pieces: ReplyPiece[], type: "text" | "reasoning", step = 0) =>
  pieces.map((piece) => (piece.type === type && piece.step === step ? piece.text : "")).join("");

const weatherOf = z.object({ city: z.enum(["Rome", "Paris"]) });
const weather = (run?: (args: { city: "Rome" | "Paris" }) => unknown): Tool<{ city: "Rome" | "Paris" }> =>
  defineTool({ name: "get_weather", description: "The weather", parameters: weatherOf, ...(run && { run }) });

for (const isolation of ["none", "process"] as const) {
  describe(`chats, isolation "${isolation}"`, function () {
    this.timeout(60_000);
    let model: Model;
    before(async () => {
      model = await loadModel(TINY_STORIES, { threads: 1, contextLength: 4096, seed: 3, isolation });
    });
    after(() => model.dispose());

    const chatOf = (options: ChatOptions = {}) =>
      model.chat({ chatTemplate: CHATML, system: "You tell stories.", maxTokens: 24, seed: 5, ...options });

    it("stream what the model says, and keep it", async () => {
      const chat = chatOf();
      const reply = chat.send("Tell me one.");
      const pieces = await collect(reply);
      const { message, finishReason, usage, steps, messages } = await reply.result;
      assert.equal(textOf(pieces, "text"), message.content);
      assert.ok(message.content.length > 10);
      assert.equal(finishReason, "length");
      assert.equal(usage.completionTokens, 24);
      assert.equal(steps.length, 1);
      assert.deepEqual(messages, [{ role: "user", content: "Tell me one." }, message]);
      assert.deepEqual(chat.messages, [{ role: "system", content: "You tell stories." }, ...messages]);
    });

    it("say what the same prompt is answered with", async () => {
      const messages: ChatMessage[] = [{ role: "user", content: "Tell me one." }];
      const prompt = await model.renderChat(messages, { chatTemplate: CHATML });
      const { text } = await model.generate(prompt, { seed: 5, maxTokens: 24 }).result;
      const answer = model.answer(messages, { chatTemplate: CHATML, seed: 5, maxTokens: 24 });
      // Readers of answers may leave out what is around them.
      assert.equal((await answer.text()).trim(), text.trim());
    });

    it("compute what is new only", async () => {
      const chat = chatOf();
      const first = await chat.send("Tell me one.").result;
      const second = await chat.send("And then?").result;
      assert.ok(second.usage.cachedTokens >= first.usage.promptTokens + first.usage.completionTokens - 4);
      assert.ok(second.usage.promptTokens - second.usage.cachedTokens < 80);
    });

    it("go on from saved messages, and from several in different ways", async () => {
      const chat = chatOf();
      await chat.send("Tell me one.").result;
      const saved = JSON.parse(JSON.stringify(chat.messages)) as ChatMessage[];
      const resumed = model.chat({ chatTemplate: CHATML, maxTokens: 24, seed: 5, messages: saved });
      const branch = chat.fork();
      const [one, two, three] = await Promise.all([
        chat.send("And then?").text(),
        resumed.send("And then?").text(),
        branch.send("And then?", { seed: 6 }).text(),
      ]);
      assert.equal(two, one);
      assert.notEqual(three, one);
      assert.deepEqual(saved, chat.messages.slice(0, 3));
      assert.equal(branch.messages.length, 5);
      // Edited: what was asked is another question.
      chat.messages = [...saved.slice(0, 1), { role: "user", content: "Who are you?" }];
      chat.messages.push((await model.answer(chat.messages, { chatTemplate: CHATML, maxTokens: 4 }).result).message);
      await chat.send("And then?").result;
      assert.equal(chat.messages.length, 5);
    });

    it("begin answers as they are told to", async () => {
      const chat = chatOf();
      const reply = chat.send("Tell me one.", { prefill: "Once upon a time, there was" });
      const pieces = await collect(reply);
      const { message } = await reply.result;
      assert.ok(message.content.startsWith("Once upon a time, there was "), message.content);
      assert.equal("Once upon a time, there was" + textOf(pieces, "text"), message.content);
    });

    it("tell apart what the model thinks, and end it after its budget", async () => {
      const chat = chatOf({ chatTemplate: THINKING, maxTokens: 60, logitBias: { [END_OF_TEXT]: -Infinity } });
      for (const [budget, message] of [
        [0, ""],
        [7, ""],
        [12, " So be it."],
      ] as const) {
        const reply = chat.fork().send("Tell me one.", { thinking: { budget, message } });
        const pieces = await collect(reply);
        const { message: said, usage } = await reply.result;
        assert.equal(textOf(pieces, "reasoning"), said.reasoning ?? "");
        assert.equal(textOf(pieces, "text"), said.content);
        const tokens = await model.tokenize((said.reasoning ?? "").trim(), { addSpecial: false });
        assert.ok(tokens.length <= budget + 12, `${budget}: ${said.reasoning}`);
        if (message !== "") assert.ok(said.reasoning?.endsWith(message), said.reasoning);
        assert.ok(said.content.length > 20, said.content);
        assert.equal(usage.completionTokens, 60);
      }
      const { message: all } = await chat.send("Tell me one.").result;
      assert.equal(all.content, "");
      assert.ok((all.reasoning?.length ?? 0) > 100);
    });

    it("run the tools that the model calls, and tell it what they gave", async () => {
      const asked: string[] = [];
      const chat = chatOf({
        chatTemplate: CALLING,
        maxTokens: 200,
        parallelToolCalls: false,
        tools: [
          weather(({ city }) => {
            asked.push(city);
            return { rain: city === "Rome" };
          }),
        ],
      });
      const reply = chat.send("Rain in Rome?", { toolChoice: "required" });
      const pieces = await collect(reply);
      const { steps, messages } = await reply.result;
      const calls = steps[0]?.message.toolCalls ?? [];
      assert.equal(steps[0]?.finishReason, "toolCalls");
      assert.equal(calls.length, 1);
      const [call] = calls;
      assert.deepEqual(
        asked,
        calls.map((one) => (one.arguments as { city: string }).city),
      );
      // Arguments came as they were written.
      const written = pieces.map((piece) => (piece.type === "toolCall" ? piece.arguments : "")).join("");
      assert.deepEqual(JSON.parse(written), call?.arguments);
      const result = messages[2] as ToolMessage;
      assert.deepEqual(result, {
        role: "tool",
        toolCallId: call?.id,
        name: "get_weather",
        content: JSON.stringify({ rain: asked[0] === "Rome" }),
      });
      assert.deepEqual(
        pieces.filter((piece) => piece.type === "toolResult"),
        [
          {
            type: "toolResult",
            step: 0,
            toolCallId: call?.id,
            name: "get_weather",
            content: result.content,
            failed: false,
          },
        ],
      );
      // Then it answers, to a prompt that has all of it.
      assert.equal(steps.length, 2);
      const prompt = await model.renderChat(chat.messages.slice(0, -1), { chatTemplate: CALLING });
      assert.ok(prompt.includes(result.content));
      assert.deepEqual(
        messages.map(({ role }) => role),
        ["user", "assistant", "tool", "assistant"],
      );
      const total = steps.reduce((sum, { usage }) => sum + usage.promptTokens, 0);
      assert.equal((await reply.result).usage.promptTokens, total);
    });

    it("tell the model what went wrong with its calls", async () => {
      const chat = chatOf({ chatTemplate: CALLING, maxTokens: 200, parallelToolCalls: false, maxSteps: 2 });
      const failing = weather(() => {
        throw new Error("The thermometer broke.");
      });
      const thrown = await collect(chat.fork().send("?", { toolChoice: "required", tools: [failing] }));
      const found = thrown.find((piece) => piece.type === "toolResult");
      assert.deepEqual(found && [found.failed, found.content], [true, '{"error":"The thermometer broke."}']);

      // Refined beyond what a schema can say.
      const never = z.object({ city: z.enum(["Rome", "Paris"]).refine(() => false, "It is closed") });
      const refined: Tool = { name: "get_weather", parameters: never, run: () => assert.fail("was run") };
      const refused = await collect(chat.fork().send("?", { toolChoice: "required", tools: [refined] }));
      const second = refused.find((piece) => piece.type === "toolResult");
      assert.ok(second?.failed);
      assert.match(second.content, /arguments for get_weather do not fit its parameters: city: It is closed/);
    });

    it("give calls back where there is nothing to run, and take what they gave", async () => {
      const chat = chatOf({ chatTemplate: CALLING, maxTokens: 200, parallelToolCalls: false, tools: [weather()] });
      const { message, finishReason } = await chat.send("Rain?", { toolChoice: { name: "get_weather" } }).result;
      assert.equal(finishReason, "toolCalls");
      const [call] = message.toolCalls ?? [];
      assert.ok(call);
      const reply = await chat.send({ role: "tool", toolCallId: call.id, name: call.name, content: "Snow" }).result;
      assert.equal(reply.steps.length, 1);
      assert.equal(chat.messages.length, 5);
    });

    it("stop after maxSteps", async () => {
      let runs = 0;
      const chat = chatOf({ chatTemplate: CALLING, maxTokens: 200, parallelToolCalls: false, maxSteps: 1 });
      const { steps, messages } = await chat.send("?", { toolChoice: "required", tools: [weather(() => ++runs)] })
        .result;
      assert.equal(steps.length, 1);
      assert.equal(runs, 0);
      assert.equal(messages.at(-1)?.role, "assistant");
    });

    it("end tools with their signal", async () => {
      const abort = new AbortController();
      const slow: Tool = {
        name: "wait",
        run: (_, { signal }) =>
          new Promise((resolve) => {
            signal?.addEventListener("abort", () => resolve("ended"));
            abort.abort();
          }),
      };
      const chat = chatOf({ chatTemplate: CALLING, maxTokens: 200, parallelToolCalls: false, tools: [slow] });
      const reply = chat.send("?", { toolChoice: "required", signal: abort.signal });
      const { finishReason, messages } = await reply.result;
      assert.equal(finishReason, "aborted");
      assert.deepEqual(messages.at(-1)?.role, "tool");
      assert.equal(messages.at(-1)?.content, "ended");
    });

    it("keep what was said when they are cancelled, and can go on", async () => {
      const chat = chatOf({ maxTokens: 3000, logitBias: { [END_OF_TEXT]: -Infinity } });
      const reply = chat.send("Tell me one.");
      for await (const piece of reply) if (piece.type === "text") break;
      const { finishReason, message } = await reply.result;
      assert.equal(finishReason, "aborted");
      assert.ok(message.content.length > 0);
      assert.deepEqual(chat.messages.at(-1), message);
      await chat.send("Go on.", { maxTokens: 4 }).result;
      assert.equal(chat.messages.length, 5);
    });

    it("lose nothing where a reply fails", async () => {
      const chat = chatOf({ system: "x" });
      const before = structuredClone(chat.messages);
      await assert.rejects(chat.send("long ".repeat(5000)).result, coldstartError("CONTEXT_OVERFLOW"));
      assert.deepEqual(chat.messages, before);
      await chat.send("short").result;
    });

    it("reply to one thing at a time", async () => {
      const chat = chatOf();
      const reply = chat.send("Tell me one.");
      assert.throws(() => chat.send("And one more."), coldstartError("INVALID_OPTION", /busy/));
      await reply.result;
      await chat.send("And one more.").result;
    });

    it("answer in a format", async () => {
      const chat = chatOf({ maxTokens: 200 });
      const schema = z.object({ name: z.string().max(8), age: z.int().min(1).max(9) });
      const reply = chat.send("Who?", { responseFormat: { type: "json", schema } });
      const value: { name: string; age: number } = await reply.json();
      assert.deepEqual(schema.parse(value), value);
      assert.deepEqual(JSON.parse(await reply.text()), value);

      const pattern = /^(yes|no), [a-z]{3,5}$/;
      assert.match(await chat.send("Sure?", { responseFormat: { type: "regex", pattern } }).text(), pattern);
      // Also after thinking, which is free.
      const thought = chatOf({ chatTemplate: THINKING, maxTokens: 200 });
      const both = await thought.send("Who?", { thinking: { budget: 9 }, responseFormat: { type: "json", schema } })
        .result;
      assert.ok((both.message.reasoning?.length ?? 0) > 9);
      schema.parse(JSON.parse(both.message.content));
    });

    it("say what the options are that do not go together", () => {
      const chat = chatOf({ tools: [weather()] });
      const refuses = (options: object, pattern: RegExp) =>
        assert.throws(() => chat.send("?", options), coldstartError("INVALID_OPTION", pattern));
      refuses({ responseFormat: { type: "json" } }, /responseFormat.*left out with tools/);
      refuses({ grammar: 'root ::= "x"' }, /grammar.*left out with tools/);
      refuses({ toolChoice: { name: "other" } }, /toolChoice/);
      refuses({ toolChoice: "required", tools: [] }, /toolChoice/);
      refuses({ tools: [weather(), weather()] }, /different names/);
      refuses({ tools: [{ name: "a b" }] }, /tools\[0\]\.name/);
      refuses({ tools: [{ name: "a", parameters: { type: "array" } }] }, /tools\[0\]\.parameters/);
      refuses({ thinking: { budget: -1 } }, /budget/);
      refuses({ templateVariables: [] }, /templateVariables/);
      refuses({ prefill: "" }, /prefill/);
      refuses({ maxSteps: 0 }, /maxSteps/);
      refuses({ parseSpecial: true }, /parseSpecial/);
      assert.throws(() => chat.send([{ role: "bot", content: "" } as never]), coldstartError("INVALID_OPTION", /role/));
      assert.throws(() => chat.send({ role: "user" } as never), coldstartError("INVALID_OPTION", /content/));
      assert.throws(() => chatOf({ messages: [{ role: "system", content: "" }] }), coldstartError("INVALID_OPTION"));
      assert.equal(chat.messages.length, 1);
    });
  });
}
