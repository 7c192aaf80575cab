import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import fc from "fast-check";
import { followAnswer, type AnswerPiece } from "../../lib/chat/follow-answer.js";
import type { GenerationChunk } from "../../lib/generation.js";
import { native, type NativeAnswer, type NativeChatPrompt } from "../../lib/native.js";
import { root, withModel } from "../support/models.js";

const tool = (name: string, properties: Record<string, unknown>) => ({
  type: "function",
  function: { name, description: "", parameters: { type: "object", properties, required: Object.keys(properties) } },
});
const tools = [
  tool("get_weather", { city: { type: "string" }, days: { type: "integer" } }),
  tool("wait", { note: { type: "string" } }),
];

const fileOf = (template: string) => path.join(root, "deps", "llama.cpp", "models", "templates", `${template}.jinja`);

function render(template: string, thinking = true): Promise<NativeChatPrompt> {
  const request = {
    messages: [{ role: "user", content: "x" }],
    tools: template.startsWith("google-gemma-2-") ? [] : tools,
    toolChoice: "auto",
    parallelToolCalls: true,
    thinking,
    continue: false,
    variables: {},
    schema: "",
    grammar: "",
  };
  return new (native().ChatTemplate)(readFileSync(fileOf(template), "utf8"), "<s>", "</s>").render(
    JSON.stringify(request),
  );
}

async function* cut(text: string, places: number[]): AsyncGenerator<GenerationChunk> {
  const characters = Array.from(text);
  const ends = [...new Set(places.map((place) => place % (characters.length + 1)))].sort((a, b) => a - b);
  let begin = 0;
  for (const end of [...ends, characters.length]) {
    yield { text: characters.slice(begin, end).join(""), tokens: [] };
    // Some pieces are read together, some one by one.
    if (end % 2 === 0) await new Promise((resolve) => setImmediate(resolve));
    begin = end;
  }
}

/** What was read, and what the pieces add up to. */
async function read(prompt: NativeChatPrompt, text: string, places: number[], isWhole = true) {
  const pieces: AnswerPiece[] = [];
  let ids = 0;
  const answer = await followAnswer(
    cut(text, places),
    new (native().AnswerParser)(prompt.format),
    () => Promise.resolve(isWhole),
    () => `id${ids++}`,
    (piece) => pieces.push(piece),
  );
  const sum: NativeAnswer = { content: "", reasoning: "", toolCalls: [] };
  for (const piece of pieces) {
    if (piece.type === "text") sum.content += piece.text;
    else if (piece.type === "reasoning") sum.reasoning += piece.text;
    else {
      const call = (sum.toolCalls[piece.index] ??= { id: piece.id, name: piece.name, arguments: "" });
      assert.deepEqual([piece.id, piece.name], [call.id, call.name]);
      call.arguments += piece.arguments;
    }
  }
  return { answer, sum };
}

interface Said {
  text: string;
  content?: string;
  reasoning?: string;
  calls?: [name: string, args: Record<string, unknown>][];
}

const rome: [string, Record<string, unknown>] = ["get_weather", { city: "Rome", days: 2 }];
const köln: [string, Record<string, unknown>] = ["get_weather", { city: "Köln", days: 1 }];
/** As models of each family write it. */
const families: Record<string, Said[]> = {
  "Qwen-Qwen3-0.6B": [
    { text: "Hello 🙂!", content: "Hello 🙂!" },
    { text: "<think>\nLet me see.\n</think>\n\nIt rains.", reasoning: "Let me see.", content: "It rains." },
    {
      text: '<think>\nHm.\n</think>\n\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome", "days": 2}}\n</tool_call>',
      reasoning: "Hm.",
      calls: [rome],
    },
    {
      text: '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome", "days": 2}}\n</tool_call>\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln", "days": 1}}\n</tool_call>',
      calls: [rome, köln],
    },
  ],
  "Qwen3-Coder": [
    {
      text: "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>",
      calls: [rome],
    },
  ],
  "meta-llama-Llama-3.1-8B-Instruct": [
    { text: "Hello.", content: "Hello." },
    { text: '{"name": "get_weather", "parameters": {"city": "Rome", "days": 2}}', calls: [rome] },
  ],
  "mistralai-Mistral-Nemo-Instruct-2407": [
    {
      text: '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Rome", "days": 2}, "id": "abcdef123"}]',
      calls: [rome],
    },
  ],
  "openai-gpt-oss-120b": [
    {
      text: "<|channel|>analysis<|message|>Let me see.<|end|><|start|>assistant<|channel|>final<|message|>It rains.",
      reasoning: "Let me see.",
      content: "It rains.",
    },
    {
      text: '<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city":"Rome","days":2}',
      reasoning: "Hm.",
      calls: [rome],
    },
  ],
  "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": [
    { text: "Let me see.</think>It rains.", reasoning: "Let me see.", content: "It rains." },
  ],
  "GLM-4.6": [
    {
      text: "<think>Hm.</think>\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>",
      reasoning: "Hm.",
      calls: [rome],
    },
  ],
  "google-gemma-2-2b-it": [{ text: "Hello.", content: "Hello." }],
};

describe("answers", () => {
  for (const [family, answers] of Object.entries(families)) {
    it(`of ${family} are read as they come`, async () => {
      const prompt = await render(family);
      for (const { text, content = "", reasoning = "", calls = [] } of answers) {
        await fc.assert(
          fc.asyncProperty(fc.array(fc.nat(), { maxLength: 40 }), async (places) => {
            const { answer, sum } = await read(prompt, text, places);
            assert.equal(answer.content.trim(), content);
            assert.equal(answer.reasoning.trim(), reasoning);
            const read_ = answer.toolCalls.map((call) => [call.name, JSON.parse(call.arguments) as unknown]);
            assert.deepEqual(read_, calls);
            // What was emitted is never taken back.
            assert.equal(sum.content, answer.content);
            assert.equal(sum.reasoning, answer.reasoning);
            assert.deepEqual(
              sum.toolCalls.map(({ name, arguments: given }) => [name, JSON.parse(given) as unknown]),
              calls,
            );
          }),
          { numRuns: 15 },
        );
      }
    });
  }

  it("that follow no format are text", async () => {
    const prompt = await render("Qwen-Qwen3-0.6B");
    for (const text of ["<tool_call>\nnothing", '<tool_call>\n{"name": "unknown"}\n</tool_call>', "</think>", "{"]) {
      const { answer } = await read(prompt, text, [3, 5]);
      assert.ok(answer.content !== "" || answer.toolCalls.length > 0, text);
    }
  });

  it("of any text come to an end", async () => {
    const prompt = await render("Qwen-Qwen3-0.6B");
    const word = fc.constantFrom(
      "<think>",
      "</think>",
      "<tool_call>",
      "</tool_call>",
      '{"name": "wait", "arguments": ',
      '{"note": "',
      '"}',
      "}",
      "\n",
      "a",
      "[",
      "🙂",
    );
    await fc.assert(
      fc.asyncProperty(fc.array(word), fc.array(fc.nat()), fc.boolean(), async (words, places, isWhole) => {
        await read(prompt, words.join(""), places, isWhole);
      }),
      { numRuns: 200 },
    );
  });

  it("that nest without end end nothing else", async () => {
    for (const family of ["Qwen-Qwen3-0.6B", "meta-llama-Llama-3.1-8B-Instruct"]) {
      const prompt = await render(family);
      const parser = new (native().AnswerParser)(prompt.format);
      const open = '<tool_call>\n{"name": "wait", "arguments": {"note": ' + "[".repeat(200_000);
      await parser.parse(open, true);
      await parser.parse(open, false);
      assert.equal((await parser.parse("Fine.", false))?.content, "Fine.");
    }
  });

  it("that are long and may call a tool end nothing else", async () => {
    await withModel({ contextLength: 8192 }, async (model) => {
      const [together] = (await model.tokenize("They played together", { addSpecial: false })).slice(-1);
      const { message, usage } = await model.answer([{ role: "user", content: "x" }], {
        chatTemplate: readFileSync(fileOf("Qwen-Qwen3-0.6B"), "utf8"),
        tools: [{ name: "wait" }],
        logitBias: { [together as number]: 100 },
        maxTokens: 3000,
      }).result;
      assert.equal(usage.completionTokens, 3000);
      assert.ok(message.content.length > 25_000, `${message.content.length} characters`);
    });
  }).timeout(120_000);
});
