// POST /v1/completions

import { randomUUID } from "node:crypto";
import type { Generation, GenerationChunk, GenerationResult } from "../index.js";
import { badRequest } from "./errors.js";
import type { Exchange } from "./exchange.js";
import {
  toFinishReason,
  toFormat,
  toSampling,
  toUsage,
  type ResponseFormatBody,
  type SamplingBody,
} from "./options.js";
import { resultsOf, stream } from "./several.js";

export interface CompletionBody extends SamplingBody {
  model?: string;
  prompt: string | string[] | number[] | number[][];
  suffix?: string | null;
  echo?: boolean | null;
  stream?: boolean | null;
  stream_options?: { include_usage?: boolean } | null;
  n?: number | null;
  max_tokens?: number | null;
  logprobs?: number | null;
  response_format?: ResponseFormatBody | null;
}

/** As OpenAI has it. */
const DEFAULT_MAX_TOKENS = 16;

export async function completions(body: CompletionBody, exchange: Exchange): Promise<unknown> {
  const prompts = toPrompts(body.prompt);
  const n = body.n ?? 1;
  if (n < 1 || n > 128) throw badRequest(`n is ${n}. It must be 1 to 128.`, "n");
  const { suffix, logprobs } = body;
  const options = {
    ...toSampling(body, body.max_tokens ?? DEFAULT_MAX_TOKENS),
    ...toFormat(body.response_format),
    ...(typeof suffix === "string" && { suffix }),
    ...(typeof logprobs === "number" && { logprobs }),
    signal: exchange.signal,
  };
  return exchange.models.use(body.model, exchange.signal, async (model, name) => {
    const generations = prompts.flatMap((prompt) =>
      Array.from({ length: n }, (_, i) =>
        model.generate(prompt, { ...options, ...(options.seed !== undefined && { seed: options.seed + i }) }),
      ),
    );
    const echoes = await Promise.all(
      prompts.map(async (prompt) => {
        if (!body.echo) return "";
        return typeof prompt === "string" ? prompt : model.detokenize(prompt, { renderSpecial: true });
      }),
    );
    const echoOf = (index: number) => echoes[Math.floor(index / n)] ?? "";
    const about = {
      id: `cmpl-${randomUUID()}`,
      object: "text_completion",
      created: Math.floor(Date.now() / 1000),
      model: name,
    };
    if (body.stream) return toStream(generations, echoOf, about, body, exchange);
    const results = await resultsOf(generations);
    return {
      ...about,
      choices: results.map((result, index) => ({
        index,
        text: echoOf(index) + result.text,
        logprobs: toLogprobs(result.logprobs),
        finish_reason: toFinishReason(result.finishReason),
      })),
      usage: usageOf(results, n),
    };
  });
}

function toPrompts(prompt: CompletionBody["prompt"]): (string | number[])[] {
  if (typeof prompt === "string") return [prompt];
  if (prompt.length === 0) throw badRequest("prompt is empty.", "prompt");
  return typeof prompt[0] === "number" ? [prompt as number[]] : (prompt as (string | number[])[]);
}

function toStream(
  generations: Generation[],
  echoOf: (index: number) => string,
  about: object,
  body: CompletionBody,
  exchange: Exchange,
): Promise<undefined> {
  const withUsage = body.stream_options?.include_usage === true;
  const chunk = (choices: unknown[], usage: unknown = null) => ({ ...about, choices, ...(withUsage && { usage }) });
  return stream(
    generations,
    exchange,
    (events, index) => {
      const tell = (text: string, logprobs: GenerationChunk["logprobs"], finish: string | null) =>
        events.send(chunk([{ index, text, logprobs: toLogprobs(logprobs), finish_reason: finish }]));
      return {
        begin: async () => {
          if (echoOf(index) !== "") await tell(echoOf(index), undefined, null);
        },
        piece: ({ text, logprobs }) => tell(text, logprobs, null),
        end: ({ finishReason }) => tell("", undefined, toFinishReason(finishReason)),
      };
    },
    async (events, results) => {
      if (withUsage) await events.send(chunk([], usageOf(results, body.n ?? 1)));
    },
  );
}

/** Of several prompts all are counted, each once. */
function usageOf(results: readonly GenerationResult[], n: number) {
  const usage = toUsage(results.map((result) => result.usage));
  const prompts = results.filter((_, index) => index % n === 0);
  const prompt_tokens = prompts.reduce((sum, result) => sum + result.usage.promptTokens, 0);
  return { ...usage, prompt_tokens, total_tokens: prompt_tokens + usage.completion_tokens };
}

function toLogprobs(logprobs: GenerationChunk["logprobs"]) {
  if (logprobs === undefined) return null;
  return {
    tokens: logprobs.map(({ text }) => text),
    token_logprobs: logprobs.map(({ logprob }) => logprob),
    top_logprobs: logprobs.map(({ top }) => Object.fromEntries(top.map(({ text, logprob }) => [text, logprob]))),
    text_offset: [],
  };
}
