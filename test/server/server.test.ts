// The server, asked by OpenAI's own client and by hand.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import * as z from "zod";
import { loadModel, ModelPool, type ChatMessage, type Model } from "../../lib/index.js";
import { createServer, type Server, type ServerOptions } from "../../lib/server/index.js";
import { randomEncoder, TINY_ENCODER } from "../support/embedding-model.js";
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
const ENDLESS = { "2": -100 };

describe("the server", function () {
  this.timeout(60_000);
  const folder = temporaryFolder();
  let model: Model;
  before(async () => {
    model = await loadModel(TINY_STORIES, { threads: 1, contextLength: 4096, parallel: 4, maxQueue: 8, seed: 3 });
  });
  after(() => model.dispose());

  const serve = (options: ServerOptions = {}, source: Model | ModelPool = model) =>
    createServer(source, { port: 0, alias: "stories", defaults: CHATML, ...options });
  const clientOf = ({ url }: Server, apiKey = "none") => new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
  const messages = [
    { role: "system" as const, content: "You tell stories." },
    { role: "user" as const, content: "Tell me one." },
  ];
  const greedy = { model: "stories", temperature: 0, max_completion_tokens: 20 };

  async function idle(): Promise<void> {
    for (let i = 0; model.status().running + model.status().waiting > 0; i++) {
      assert.ok(i < 200, "something is still running");
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  it("answers chats as the model does", async () => {
    await using server = await serve();
    const client = clientOf(server);
    const expected = await model.answer(messages, { ...CHATML, temperature: 0, maxTokens: 20 }).result;
    const completion = await client.chat.completions.create({ ...greedy, messages });
    assert.equal(completion.object, "chat.completion");
    assert.equal(completion.model, "stories");
    const [choice] = completion.choices;
    assert.equal(choice!.message.content, expected.message.content);
    assert.equal(choice!.finish_reason, expected.finishReason === "length" ? "length" : "stop");
    assert.equal(completion.usage!.prompt_tokens, expected.usage.promptTokens);
    assert.equal(completion.usage!.completion_tokens, expected.usage.completionTokens);
    assert.ok(completion.usage!.prompt_tokens_details!.cached_tokens! > 0);

    const stream = await client.chat.completions.create({
      ...greedy,
      messages,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    let reason: string | null = null;
    let usage: OpenAI.CompletionUsage | undefined;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      reason = chunk.choices[0]?.finish_reason ?? reason;
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, expected.message.content);
    assert.equal(reason, choice!.finish_reason);
    assert.equal(usage?.completion_tokens, expected.usage.completionTokens);
  });

  it("has the options of OpenAI's API, and more", async () => {
    await using server = await serve();
    const client = clientOf(server);
    const of = async (options: object) =>
      client.chat.completions.create({ ...greedy, messages, ...options } as never) as Promise<OpenAI.ChatCompletion>;
    const several = await of({ n: 3, temperature: 1, seed: 5 });
    assert.equal(several.choices.length, 3);
    assert.equal(new Set(several.choices.map(({ message }) => message.content)).size, 3);
    const again = await of({ n: 3, temperature: 1, seed: 5 });
    assert.deepEqual(again.choices.map(({ message }) => message.content), several.choices.map(({ message }) => message.content)); // prettier-ignore
    const plain = (await of({})).choices[0]!.message.content!;
    const stop = plain.slice(6, 10);
    const stopped = (await of({ stop: [stop] })).choices[0]!;
    assert.deepEqual([stopped.message.content, stopped.finish_reason], [plain.slice(0, plain.indexOf(stop)), "stop"]);
    const probable = (await of({ logprobs: true, top_logprobs: 2, max_completion_tokens: 4 })).choices[0]!;
    const { content: likely } = probable.logprobs!;
    assert.equal(likely!.length, 4);
    assert.equal(likely![0]!.top_logprobs.length, 2);
    assert.equal((await of({ max_completion_tokens: 2 })).usage?.completion_tokens, 2);
    assert.match((await of({ grammar: 'root ::= "yes" | "no"' })).choices[0]!.message.content!, /^(yes|no)$/);
    const parts = [
      {
        role: "user",
        content: [
          { type: "text", text: "Tell " },
          { type: "text", text: "me one." },
        ],
      },
    ];
    assert.ok((await of({ messages: parts })).choices[0]!.message.content);
    for (const bad of [
      { temperature: -1 },
      { temperature: "hot" },
      { top_p: 2 },
      { n: 0 },
      { messages: [] },
      { messages: [{ role: "cat", content: "x" }] },
      { messages: "x" },
      { logit_bias: { x: 1 } },
      { max_completion_tokens: 0 },
      { max_tokens: 0, max_completion_tokens: undefined },
      { response_format: { type: "xml" } },
      { tool_choice: "all" },
      { messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "http://169.254.169.254/" } }] }] },
      { messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "file:///etc/passwd" } }] }] },
    ])
      // prettier-ignore
      await assert.rejects(of(bad), (error: InstanceType<typeof OpenAI.APIError>) => {
        assert.equal(error.status, 400, JSON.stringify(bad));
        assert.equal(error.type, "invalid_request_error");
        return true;
      });
    await assert.rejects(of({ messages: [{ role: "user", content: "a ".repeat(9000) }] }), {
      status: 400,
      code: "context_length_exceeded",
    });
    await assert.rejects(of({ model: "gpt-x" }), { status: 404, code: "model_not_found" });
  });

  it("calls tools, streamed and not, and goes on with what they give", async () => {
    await using server = await serve({ defaults: CALLING });
    const client = clientOf(server);
    const tools: OpenAI.ChatCompletionTool[] = [
      {
        type: "function",
        function: {
          name: "get_weather",
          description: "The weather",
          parameters: {
            type: "object",
            properties: { city: { enum: ["Rome", "Paris"] } },
            required: ["city"],
            additionalProperties: false,
          },
        },
      },
    ];
    const ask = {
      ...greedy,
      max_completion_tokens: 300,
      messages: [{ role: "user" as const, content: "Rain?" }],
      tools,
      tool_choice: "required" as const,
    };
    const answer = await client.chat.completions.create(ask);
    const [choice] = answer.choices;
    assert.equal(choice?.finish_reason, "tool_calls");
    const [call] = choice.message.tool_calls ?? [];
    assert.ok(call?.type === "function" && call.function.name === "get_weather");
    const { city } = JSON.parse(call.function.arguments) as { city: string };
    assert.ok(["Rome", "Paris"].includes(city));

    const runner = client.chat.completions.stream({ ...ask, stream: true });
    const final = await runner.finalChatCompletion();
    const streamed = final.choices[0]!.message.tool_calls![0]!;
    assert.deepEqual(JSON.parse(streamed.function.arguments), { city });
    assert.ok(streamed.id.length > 0);

    const next = await client.chat.completions.create({
      ...ask,
      tool_choice: "none",
      messages: [...ask.messages, choice.message, { role: "tool", tool_call_id: call.id, content: `rain in ${city}` }],
    });
    assert.ok(next.usage!.prompt_tokens > answer.usage!.prompt_tokens);
    assert.equal(next.choices[0]!.message.tool_calls, undefined);
  });

  it("gives objects, and thoughts apart", async () => {
    await using server = await serve();
    const client = clientOf(server);
    const Animal = z.object({ animal: z.enum(["cat", "dog"]), legs: z.number().int().min(1).max(9) });
    const { choices } = await client.chat.completions.parse({
      ...greedy,
      max_completion_tokens: 200,
      messages,
      response_format: zodResponseFormat(Animal, "animal"),
    });
    assert.ok(Animal.safeParse(choices[0]?.message.parsed).success);
    const object = await client.chat.completions.create({
      ...greedy,
      max_completion_tokens: 300,
      messages,
      response_format: { type: "json_object" },
    });
    if (object.choices[0]?.finish_reason === "stop") JSON.parse(object.choices[0].message.content!);

    await using thinking = await serve({ defaults: THINKING });
    const thought = await clientOf(thinking).chat.completions.create({ ...greedy, messages });
    const expected = await model.answer(messages, { ...THINKING, temperature: 0, maxTokens: 20 }).result;
    const message = thought.choices[0]!.message as { content: string; reasoning_content?: string };
    assert.equal(message.reasoning_content, expected.message.reasoning);
    assert.equal(message.content, expected.message.content);
  });

  it("completes texts", async () => {
    await using server = await serve();
    const client = clientOf(server);
    const prompt = "Once upon a time, there was";
    const expected = (await model.generate(prompt, { temperature: 0, maxTokens: 12 }).result).text;
    const complete = (options: object) =>
      client.completions.create({
        model: "stories",
        temperature: 0,
        max_tokens: 12,
        prompt,
        ...options,
      } as never) as Promise<OpenAI.Completion>;
    const one = await complete({});
    assert.equal(one.choices[0]?.text, expected);
    assert.equal((await complete({ max_tokens: undefined })).usage?.completion_tokens, 16);
    assert.equal((await complete({ echo: true })).choices[0]?.text, prompt + expected);
    const tokens = await model.tokenize(prompt);
    assert.equal((await complete({ prompt: tokens })).choices[0]?.text, expected);
    const two = await complete({ prompt: [prompt, "One day"], n: 2 });
    assert.deepEqual(two.choices.map(({ index }) => index), [0, 1, 2, 3]); // prettier-ignore
    assert.equal(two.choices[0]?.text, expected);
    const probable = await complete({ logprobs: 2 });
    assert.equal(probable.choices[0]?.logprobs?.token_logprobs?.length, 12);
    let text = "";
    for await (const chunk of await client.completions.create({
      model: "stories",
      temperature: 0,
      max_tokens: 12,
      prompt,
      stream: true,
    }))
      text += chunk.choices[0]?.text ?? "";
    assert.equal(text, expected);
  });

  it("embeds and ranks, lists models, counts tokens", async () => {
    writeFileSync(folder.path("encoder.gguf"), randomEncoder({ ...TINY_ENCODER }));
    await using pool = new ModelPool({ models: { stories: TINY_STORIES, encoder: folder.path("encoder.gguf") } });
    await using server = await serve({}, pool);
    const client = clientOf(server);
    assert.deepEqual((await client.models.list()).data.map(({ id }) => id), ["stories", "encoder"]); // prettier-ignore
    assert.equal((await client.models.retrieve("encoder")).id, "encoder");
    await assert.rejects(client.models.retrieve("none"), { status: 404 });
    const texts = ["one two", "three"];
    const { vectors } = await pool.use("encoder", (encoder) => encoder.embed(texts));
    // The client asks for base64 by itself.
    for (const options of [{}, { encoding_format: "float" as const }]) {
      const { data, usage } = await client.embeddings.create({ model: "encoder", input: texts, ...options });
      data.forEach(({ embedding }, i) => assert.deepEqual(Float32Array.from(embedding), vectors[i]));
      assert.ok(usage.total_tokens > 0);
    }
    await assert.rejects(client.embeddings.create({ model: "encoder", input: [] }), { status: 400 });
    await assert.rejects(client.chat.completions.create({ ...greedy, model: "encoder", messages }), { status: 400 });
    const post = async (route: string, body: unknown) => {
      const response = await fetch(server.url + route, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      });
      return { status: response.status, body: (await response.json()) as Record<string, unknown> };
    };
    const tokens = await pool.use("stories", (stories) => stories.tokenize("Once upon"));
    assert.deepEqual((await post("/tokenize", { model: "stories", prompt: "Once upon" })).body["tokens"], tokens);
    assert.deepEqual((await post("/detokenize", { model: "stories", tokens })).body, { prompt: "Once upon" });
    const ranked = await post("/v1/rerank", { model: "encoder", query: "q", documents: ["a"] });
    assert.deepEqual([ranked.status, (ranked.body["error"] as { code: string }).code], [400, "unsupported_model"]);
  });

  it("reads images that come with a request", async () => {
    writeFileSync(folder.path("mmproj.gguf"), randomProjector("mlp", model.info.embeddingLength));
    const sees = await loadModel(TINY_STORIES, { threads: 1, contextLength: 1024, mmproj: folder.path("mmproj.gguf") });
    try {
      await using server = await serve({}, sees);
      const data = randomPicture(64, 48, 1);
      const url = `data:image/bmp;base64,${data.toString("base64")}`;
      const { choices, usage } = await clientOf(server).chat.completions.create({
        ...greedy,
        messages: [
          {
            role: "user",
            content: [
              { type: "text", text: "What?" },
              { type: "image_url", image_url: { url } },
            ],
          },
        ],
      });
      const content: ChatMessage[] = [
        {
          role: "user",
          content: [
            { type: "text", text: "What?" },
            { type: "image", data },
          ],
        },
      ];
      const expected = await sees.answer(content, { ...CHATML, temperature: 0, maxTokens: 20 }).result;
      assert.equal(choices[0]?.message.content, expected.message.content);
      assert.equal(usage?.prompt_tokens, expected.usage.promptTokens);
    } finally {
      await sees.dispose();
    }
  });

  it("ends what nobody waits for any more", async () => {
    await using server = await serve();
    const client = clientOf(server);
    const endless = { ...greedy, max_completion_tokens: 3000, messages, logit_bias: ENDLESS };
    const stream = await client.chat.completions.create({ ...endless, stream: true });
    for await (const _ of stream) break;
    await idle();
    const aborted = new AbortController();
    const waiting = client.chat.completions.create(endless, { signal: aborted.signal });
    setTimeout(() => aborted.abort(), 50);
    await assert.rejects(waiting);
    await idle();
  });

  it("has limits: of bodies, time, clients, the queue", async () => {
    await using server = await serve({ bodyLimit: 20_000, requestTimeout: 150, maxPerClient: 3 });
    const client = clientOf(server);
    const endless = { ...greedy, max_completion_tokens: 3900, messages, logit_bias: ENDLESS };
    const long = { ...greedy, messages: [{ role: "user" as const, content: "a".repeat(30_000) }] };
    await assert.rejects(client.chat.completions.create(long), { status: 413 });
    await assert.rejects(client.chat.completions.create(endless), { status: 408, code: "timeout" });
    const stream = await client.chat.completions.create({ ...endless, stream: true });
    await assert.rejects(async () => {
      for await (const _ of stream);
    }, /longer than this server lets/);
    const many = await Promise.allSettled(Array.from({ length: 5 }, () => client.chat.completions.create(endless)));
    const codes = many.map((one) => (one.status === "rejected" ? (one.reason as { status: number }).status : 200));
    assert.deepEqual(codes.sort(), [408, 408, 408, 429, 429]);
    await idle();

    await using open = await serve();
    const all = await Promise.allSettled(
      Array.from({ length: 20 }, () =>
        clientOf(open).chat.completions.create({
          ...greedy,
          max_completion_tokens: 300,
          messages,
          logit_bias: ENDLESS,
        }),
      ),
    );
    const refused = all.flatMap((one) =>
      one.status === "rejected" ? [one.reason as InstanceType<typeof OpenAI.APIError>] : [],
    );
    assert.ok(refused.length > 0 && refused.length < 20);
    for (const error of refused) {
      assert.deepEqual([error.status, error.code], [429, "rate_limit_exceeded"]);
      assert.equal(error.headers?.get("retry-after"), "1");
    }
  });

  it("asks for keys, and answers to this machine's names alone without", async () => {
    await assert.rejects(serve({ host: "0.0.0.0" }), coldstartError("INVALID_OPTION", /no apiKeys/));
    await using guarded = await serve({ host: "0.0.0.0", apiKeys: ["secret-1", "secret-2"] });
    const url = guarded.url.replace("0.0.0.0", "127.0.0.1");
    for (const key of ["wrong", "secret-", "secret-11"])
      await assert.rejects(new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 }).models.list(), {
        status: 401,
      });
    for (const route of ["/v1/models", "/metrics"]) assert.equal((await fetch(url + route)).status, 401);
    assert.equal((await fetch(`${url}/health`)).status, 200);
    assert.equal((await new OpenAI({ baseURL: `${url}/v1`, apiKey: "secret-2" }).models.list()).data.length, 1);

    await using open = await serve();
    const as = (host: string) =>
      new Promise<number | undefined>((resolve, reject) => {
        http.get(`${open.url}/v1/models`, { headers: { host } }, (response) => {
          response.resume();
          resolve(response.statusCode);
        }).on("error", reject); // prettier-ignore
      });
    assert.deepEqual([await as("localhost:1"), await as("127.0.0.1"), await as("[::1]:80"), await as("evil.example")], [200, 200, 200, 403]); // prettier-ignore
    const origin = { headers: { origin: "https://a.example" } };
    assert.equal((await fetch(`${open.url}/v1/models`, origin)).headers.get("access-control-allow-origin"), null);
    await using shared = await serve({ cors: ["https://a.example"] });
    assert.equal(
      (await fetch(`${shared.url}/v1/models`, origin)).headers.get("access-control-allow-origin"),
      "https://a.example",
    );
  });

  it("tells what it does, and nothing of what is said", async () => {
    const lines: string[] = [];
    const stream = { write: (line: string) => void lines.push(line) };
    await using server = await serve({ apiKeys: ["very-secret"], logger: { level: "trace", stream } });
    const client = clientOf(server, "very-secret");
    await client.chat.completions.create({ ...greedy, messages: [{ role: "user", content: "PRIVATE words" }] });
    await assert.rejects(
      client.chat.completions.create({
        ...greedy,
        temperature: -1,
        messages: [{ role: "user", content: "PRIVATE words" }],
      }),
    );
    const log = lines.join("");
    assert.match(log, /chat\/completions/);
    assert.doesNotMatch(log, /PRIVATE|very-secret/);
    const text = await (
      await fetch(`${server.url}/metrics`, { headers: { authorization: "Bearer very-secret" } })
    ).text();
    assert.match(text, /coldstart:generation_tokens_total\{model_name="/);
    assert.equal((await fetch(`${server.url}/none`)).status, 404);
  });

  it("is what coldstart serve starts, and a signal ends", async () => {
    const cli = path.join(root, "dist/cli/main.js");
    const run = (...args: string[]) =>
      spawn(process.execPath, [cli, "serve", ...args], { stdio: ["ignore", "pipe", "pipe"] });
    const server = run(
      TINY_STORIES,
      "--port",
      "0",
      "--metrics-port",
      "0",
      "--alias",
      "tiny",
      "--chat-template",
      "chatml",
      "--threads",
      "1",
    );
    let out = "";
    server.stdout.setEncoding("utf8").on("data", (chunk: string) => (out += chunk));
    let err = "";
    const url = await new Promise<string>((resolve, reject) => {
      server.stderr.setEncoding("utf8").on("data", (chunk: string) => {
        err += chunk;
        const [, found] = /(http:\S+\/v1) is ready/.exec(err) ?? [];
        if (found !== undefined) resolve(found);
      });
      server.once("exit", () => reject(new Error(err)));
    });
    const client = new OpenAI({ baseURL: url, apiKey: "none", maxRetries: 0 });
    const answer = await client.chat.completions.create({
      ...greedy,
      model: "tiny",
      messages: [{ role: "user", content: "SECRET" }],
    });
    assert.equal(answer.usage?.completion_tokens, 20);
    server.kill("SIGTERM");
    assert.equal(await new Promise((resolve) => server.once("exit", resolve)), 0, err);
    assert.match(out, /chat\/completions/);
    assert.doesNotMatch(out + err, /SECRET/);

    const refused = run(TINY_STORIES, "--host", "0.0.0.0", "--port", "0", "--quiet");
    let why = "";
    refused.stderr.setEncoding("utf8").on("data", (chunk: string) => (why += chunk));
    assert.equal(await new Promise((resolve) => refused.once("exit", resolve)), 2);
    assert.match(why, /no apiKeys.*\[INVALID_OPTION\]/);
  });

  it("lets requests under way end when it closes, and no longer than it is told", async () => {
    const server = await serve();
    const client = clientOf(server);
    const running = client.chat.completions.create({
      ...greedy,
      max_completion_tokens: 200,
      messages,
      logit_bias: ENDLESS,
    });
    while (model.status().running === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    const closed = server.close();
    assert.equal((await running).usage?.completion_tokens, 200);
    await closed;
    await assert.rejects(fetch(`${server.url}/health`));

    const impatient = await serve({ drainTimeout: 50 });
    const cut = clientOf(impatient).chat.completions.create({
      ...greedy,
      max_completion_tokens: 3900,
      messages,
      logit_bias: ENDLESS,
    });
    cut.catch(() => undefined);
    while (model.status().running === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await impatient.close();
    await assert.rejects(cut, { status: 408 });
    await idle();
  });
});
