import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import type { ChatMessage, Tool } from "../../lib/index.js";
import { checkAnswer, type AnswerOptions } from "../../lib/chat/answer-options.js";
import { toOpenAi } from "../../lib/chat/messages.js";
import { native, type NativeChatPrompt } from "../../lib/native.js";
import { coldstartError } from "../support/errors.js";
import { withLlamaServer } from "../support/llama-server.js";
import { root, TINY_STORIES, withModel } from "../support/models.js";

const folder = path.join(root, "deps", "llama.cpp", "models", "templates");
export const templates = readdirSync(folder).filter((name) => name.endsWith(".jinja"));
const sourceOf = (name: string) => readFileSync(path.join(folder, name), "utf8");

const weather: Tool = {
  name: "get_weather",
  description: "The weather in a city",
  parameters: {
    type: "object",
    properties: { city: { type: "string", description: "Its name" }, days: { type: "integer" } },
    required: ["city"],
  },
};
const user = (content: string): ChatMessage => ({ role: "user", content });
const call: ChatMessage = {
  role: "assistant",
  content: "",
  toolCalls: [{ id: "abcdef123", name: "get_weather", arguments: { city: "Köln", days: 2 } }],
};
const result: ChatMessage = { role: "tool", toolCallId: "abcdef123", name: "get_weather", content: '{"rain":true}' };

const conversations: Record<string, { messages: ChatMessage[]; options?: AnswerOptions }> = {
  "a question": { messages: [{ role: "system", content: "Be brief." }, user("Why is the sky blue?")] },
  "several turns": {
    messages: [user("Hi  "), { role: "assistant", content: "Hello!\n" }, user("Say \"<b>ä</b>\" 'twice' 🙂")],
  },
  "what was thought": {
    messages: [user("1 + 1?"), { role: "assistant", reasoning: "Easy.", content: "2" }, user("And 2 + 2?")],
  },
  "thinking off": { messages: [user("1 + 1?")], options: { thinking: false } },
  "a tool": { messages: [{ role: "system", content: "Be brief." }, user("Weather?")], options: { tools: [weather] } },
  "a tool that was called": { messages: [user("Weather?"), call, result], options: { tools: [weather] } },
  "the beginning of an answer": { messages: [user("Count."), { role: "assistant", content: "1, 2" }] },
};

/** What calls of tools look like in their answers is not known: llama-server would go on without. */
const WITHOUT_CALLS = [
  "HuggingFaceTB-SmolLM3-3B.jinja",
  "deepseek-ai-DeepSeek-R1-Distill-Llama-8B.jinja",
  "google-gemma-2-2b-it.jinja",
  "ibm-granite-granite-3.3-2B-Instruct.jinja",
  "llama-cpp-rwkv-world.jinja",
  "microsoft-Phi-3.5-mini-instruct.jinja",
];

/** What llama-server makes of it: the prompt, or undefined where it refuses. */
async function ask(
  url: string,
  { messages, options = {} }: (typeof conversations)[string],
): Promise<string | undefined> {
  const { tools, thinks } = checkAnswer(options, {
    contextLength: 256,
    nextSeed: () => 0,
    mediaMarker: "",
    adapters: { choose: () => [] },
  });
  const body = {
    messages: messages.map((message) => toOpenAi(message)),
    ...(tools.length > 0 && { tools: tools.map(({ definition }) => definition) }),
    parallel_tool_calls: true,
    chat_template_kwargs: { enable_thinking: thinks },
  };
  const response = await fetch(`${url}/apply-template`, { method: "POST", body: JSON.stringify(body) });
  return response.ok ? ((await response.json()) as { prompt: string }).prompt : undefined;
}

describe("chat templates", () => {
  describe("are those of llama-server:", () => {
    for (const name of templates) {
      it(name, async () => {
        await withLlamaServer(TINY_STORIES, ["--chat-template-file", path.join(folder, name)], async (url) => {
          await withModel({}, async (model) => {
            for (const [title, conversation] of Object.entries(conversations)) {
              const refuses = conversation.options?.tools && WITHOUT_CALLS.includes(name);
              const expected = refuses ? undefined : await ask(url, conversation);
              const options = { ...conversation.options, chatTemplate: sourceOf(name) };
              const prompt = model.renderChat(conversation.messages, options);
              if (expected === undefined) await assert.rejects(prompt, coldstartError("CHAT_TEMPLATE_FAILED"), title);
              else assert.equal(await prompt, expected, title);
            }
          });
        });
      });
    }
  });

  const render = (source: string, messages: unknown[] = [{ role: "user", content: "x" }]): Promise<NativeChatPrompt> =>
    new (native().ChatTemplate)(source, "<s>", "</s>").render(
      JSON.stringify({
        messages,
        tools: [],
        toolChoice: "none",
        parallelToolCalls: true,
        thinking: true,
        continue: false,
        variables: {},
        schema: "",
        grammar: "",
      }),
    );
  const say = "{% for m in messages %}{{ m.content }}{% endfor %}";

  describe("that no machine could take are refused:", () => {
    const nested = (open: string, inner: string, close: string, times: number) =>
      open.repeat(times) + inner + close.repeat(times);
    const hostile: Record<string, string> = {
      "a macro that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "a range that never ends": "{% for i in range(10 ** 18) %}x{% endfor %}".replace(
        "10 ** 18",
        "1000000000000000000",
      ),
      "loops in loops": nested("{% for i in range(100000) %}", "x", "{% endfor %}", 4),
      "empty loops over a long list":
        "{% set a = range(1000000) %}{% for i in range(1000) %}{% for j in a %}{% endfor %}{% endfor %}",
      "text that doubles": `{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s|length }}`,
      "text that is repeated": "{{ 'x' * 1000000000000 }}",
      "text that is replaced by itself":
        "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(20) %}{% set ns.s = ns.s|replace('a', ns.s) %}{% endfor %}",
      "an indent of a billion": "{{ 'a'|indent(1000000000000, true) }}",
      "a negative indent": "{{ 'a'|indent(-1, true) }}",
      "a list that holds itself": "{% set l = [] %}{% set _ = l.append(l) %}{{ l|tojson }}",
      "a list that holds itself, as text": "{% set l = [] %}{% set _ = l.append(l) %}{{ l|string }}",
      "a list that holds itself, written": "{% set l = [] %}{% set _ = l.append(l) %}{{ l }}",
      "lists that double":
        "{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a|tojson }}",
      parentheses: `{{ ${nested("(", "1", ")", 100_000)} }}`,
      brackets: `{{ ${nested("[", "1", "]", 100_000)} }}`,
      "blocks within blocks": nested("{% if true %}", "x", "{% endif %}", 20_000),
      "a long sum": `{{ ${Array(200_000).fill("1").join("+")} }}`,
      "a long chain of not": `{{ ${"not ".repeat(100_000)} 1 }}`,
      "a long chain of else": `{{ ${"1 if 0 else ".repeat(100_000)} 1 }}`,
      "a long chain of calls": `{{ messages${"()".repeat(100_000)} }}`,
      "what is no Jinja": "{% for %}",
      "its own refusal": "{{ raise_exception('Roles must alternate') }}",
    };
    for (const [title, source] of Object.entries(hostile)) {
      it(title, async () => {
        await assert.rejects(render(source + say), coldstartError("CHAT_TEMPLATE_FAILED"), title);
        assert.equal((await render(say, [{ role: "user", content: "fine" }])).text, "fine");
      });
    }
  });

  it("take long conversations", async () => {
    const messages = Array.from({ length: 5000 }, (_, i) => ({
      role: i % 2 === 0 ? "user" : "assistant",
      content: `${i} `.repeat(100),
    }));
    const { text } = await render(sourceOf("Qwen-Qwen3-0.6B.jinja"), messages);
    assert.ok(text.includes("4999 4999"));
  });

  it("say what they refuse", async () => {
    await withModel({}, async (model) => {
      const chatTemplate = "{{ raise_exception('Roles must alternate') }}";
      await assert.rejects(
        model.answer([user("x")], { chatTemplate }).result,
        coldstartError("CHAT_TEMPLATE_FAILED", /Roles must alternate/),
      );
    });
  });

  it("have to be there", async () => {
    await withModel({}, async (model) => {
      await assert.rejects(
        model.answer([user("x")]).result,
        coldstartError("CHAT_TEMPLATE_FAILED", /has no chat template/),
      );
      await assert.rejects(model.renderChat([user("x")]), coldstartError("CHAT_TEMPLATE_FAILED"));
    });
  });
});
