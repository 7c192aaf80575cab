// POST /v1/chat/completions

import { randomUUID } from "node:crypto";
import type { Answer, AnswerOptions, AnswerPiece, AnswerResult } from "../index.js";
import { badRequest } from "./errors.js";
import { toMessages, type MessageBody } from "./messages.js";
import {
  toFinishReason,
  toFormat,
  toSampling,
  toTools,
  toUsage,
  type ResponseFormatBody,
  type SamplingBody,
  type ToolBody,
  type ToolChoiceBody,
} from "./options.js";
import type { Exchange } from "./exchange.js";
import { resultsOf, stream } from "./several.js";

export interface ChatBody extends SamplingBody {
  model?: string;
  messages: MessageBody[];
  stream?: boolean | null;
  stream_options?: { include_usage?: boolean } | null;
  n?: number | null;
  max_tokens?: number | null;
  max_completion_tokens?: number | null;
  logprobs?: boolean | null;
  top_logprobs?: number | null;
  tools?: ToolBody[] | null;
  tool_choice?: ToolChoiceBody | null;
  parallel_tool_calls?: boolean | null;
  response_format?: ResponseFormatBody | null;
  reasoning_effort?: string | null;
  chat_template_kwargs?: Record<string, unknown> | null;
}

export async function chatCompletions(body: ChatBody, exchange: Exchange): Promise<unknown> {
  const messages = toMessages(body.messages);
  const options = toOptions(body, exchange);
  return exchange.models.use(body.model, exchange.signal, async (model, name) => {
    // With one seed all would be the same.
    const seeds = (i: number): AnswerOptions =>
      options.seed === undefined || i === 0 ? {} : { seed: options.seed + i };
    const answers = Array.from({ length: body.n ?? 1 }, (_, i) => model.answer(messages, { ...options, ...seeds(i) }));
    const about = { id: `chatcmpl-${randomUUID()}`, created: Math.floor(Date.now() / 1000), model: name };
    return body.stream ? toStream(answers, about, body, exchange) : whole(answers, about, body);
  });
}

interface About {
  id: string;
  created: number;
  model: string;
}

function toOptions(body: ChatBody, { defaults, signal }: Exchange): AnswerOptions {
  const { reasoning_effort: effort, chat_template_kwargs: variables, parallel_tool_calls: parallel } = body;
  if (body.n !== undefined && body.n !== null && (body.n < 1 || body.n > 128))
    throw badRequest(`n is ${body.n}. It must be 1 to 128.`, "n");
  return {
    ...defaults,
    ...toSampling(body, body.max_completion_tokens ?? body.max_tokens),
    ...toFormat(body.response_format),
    ...toTools(body.tools, body.tool_choice),
    ...(typeof parallel === "boolean" && { parallelToolCalls: parallel }),
    ...(body.logprobs && { logprobs: body.top_logprobs ?? true }),
    ...(effort === "none" && { thinking: false }),
    templateVariables: {
      ...defaults.templateVariables,
      ...(typeof effort === "string" && effort !== "none" && { reasoning_effort: effort }),
      ...variables,
    },
    signal,
  };
}

async function whole(answers: Answer[], about: About, body: ChatBody) {
  const results = await resultsOf(answers);
  return {
    ...about,
    object: "chat.completion",
    choices: results.map((result, index) => ({
      index,
      message: toMessage(result),
      logprobs: body.logprobs ? toLogprobs(result) : null,
      finish_reason: toFinishReason(result.finishReason),
    })),
    usage: toUsage(results.map(({ usage }) => usage)),
  };
}

function toStream(answers: Answer[], about: About, body: ChatBody, exchange: Exchange): Promise<undefined> {
  const withUsage = body.stream_options?.include_usage === true;
  const chunk = (choices: unknown[], usage: unknown = null) => ({
    ...about,
    object: "chat.completion.chunk",
    choices,
    ...(withUsage && { usage }),
  });
  return stream(
    answers,
    exchange,
    (events, index) => {
      const send = (delta: unknown, finish: string | null = null, logprobs: unknown = null) =>
        events.send(chunk([{ index, delta, logprobs, finish_reason: finish }]));
      const begun = new Set<number>();
      return {
        begin: () => send({ role: "assistant", content: "" }),
        piece: (piece) => send(toDelta(piece, begun)),
        end: (result) => send({}, toFinishReason(result.finishReason), body.logprobs ? toLogprobs(result) : null),
      };
    },
    async (events, results) => {
      if (withUsage) await events.send(chunk([], toUsage(results.map(({ usage }) => usage))));
    },
  );
}

/** @param begun calls whose id and name were told */
function toDelta(piece: AnswerPiece, begun: Set<number>): Record<string, unknown> {
  if (piece.type === "text") return { content: piece.text };
  if (piece.type === "reasoning") return { reasoning_content: piece.text };
  const { index, id, name, arguments: text } = piece;
  if (begun.has(index)) return { tool_calls: [{ index, function: { arguments: text } }] };
  begun.add(index);
  return { tool_calls: [{ index, id, type: "function", function: { name, arguments: text } }] };
}

function toMessage({ message: { content, reasoning, toolCalls = [] } }: AnswerResult) {
  return {
    role: "assistant",
    content: content === "" && toolCalls.length > 0 ? null : content,
    refusal: null,
    ...(reasoning !== undefined && { reasoning_content: reasoning }),
    ...(toolCalls.length > 0 && {
      tool_calls: toolCalls.map(({ id, name, arguments: given }) => ({
        id,
        type: "function",
        function: { name, arguments: typeof given === "string" ? given : JSON.stringify(given) },
      })),
    }),
  };
}

function toLogprobs({ logprobs = [] }: AnswerResult) {
  const toToken = ({ text, logprob }: { text: string; logprob: number }) => ({
    token: text,
    logprob,
    bytes: [...Buffer.from(text)],
  });
  return { content: logprobs.map((one) => ({ ...toToken(one), top_logprobs: one.top.map(toToken) })), refusal: null };
}
