// What a model has done since it was loaded, in figures.

import type { FinishReason } from "../generation.js";
import type { NativeMetrics } from "../native.js";
import { distributionOf, type Distribution } from "./histogram.js";

/** Times in seconds, of one monotonic clock in native code; all since the model was loaded. */
export interface ModelMetrics {
  requests: {
    /** Those that have ended, by their reason. */
    finished: Record<FinishReason, number>;
    /** Refused because the queue was full. */
    refused: number;
    /** Failed because the model's logits were NaN or infinite. */
    numericErrors: number;
    /** Failed for other reasons. */
    failed: number;
    /** Times that one had to give its room to others. */
    preemptions: number;
  };
  latency: {
    /** From the call to the first token. */
    timeToFirstToken: Distribution;
    /** Between two tokens of a request. */
    interToken: Distribution;
    /** From the call to the end. */
    endToEnd: Distribution;
    /** From the call until its prompt is computed. */
    queue: Distribution;
    /** From there to the first token. */
    prefill: Distribution;
    /** From there to the last one. */
    decode: Distribution;
  };
  tokens: {
    /** Of prompts, computed: without those that were known. */
    prefilled: number;
    generated: number;
    /** Of each request's prompt. */
    perPrompt: Distribution;
    /** Of each answer. */
    perAnswer: Distribution;
    embedded: number;
  };
  prefixCache: {
    /** Tokens of prompts that were looked for. */
    queries: number;
    /** Of them, those that were there. */
    hits: number;
  };
  speculation: { guessed: number; accepted: number };
  steps: {
    /** Tokens computed in steps, guesses included. */
    tokens: number;
    /** That steps took. */
    seconds: number;
  };
  /** Texts that were embedded. */
  embeddedTexts: number;
}

export function toModelMetrics(native: NativeMetrics): ModelMetrics {
  return {
    requests: {
      finished: native.finished,
      refused: native.refused,
      numericErrors: native.numericErrors,
      failed: native.failed,
      preemptions: native.preemptions,
    },
    latency: {
      timeToFirstToken: distributionOf(native.timeToFirstToken),
      interToken: distributionOf(native.interToken),
      endToEnd: distributionOf(native.endToEnd),
      queue: distributionOf(native.queue),
      prefill: distributionOf(native.prefill),
      decode: distributionOf(native.decode),
    },
    tokens: {
      prefilled: native.prefilledTokens,
      generated: native.generatedTokens,
      perPrompt: distributionOf(native.promptTokens),
      perAnswer: distributionOf(native.completionTokens),
      embedded: native.embeddedTokens,
    },
    prefixCache: { queries: native.prefixCacheQueries, hits: native.prefixCacheHits },
    speculation: { guessed: native.guessedTokens, accepted: native.acceptedTokens },
    steps: { tokens: native.stepTokens, seconds: native.stepSeconds },
    embeddedTexts: native.embeddedTexts,
  };
}
