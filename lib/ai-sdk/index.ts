/**
 * Models for the AI SDK (the npm package `ai`, version 7; its provider specification v4).
 *
 * @module
 */

import type { EmbeddingModelV4, LanguageModelV4, ProviderV4, RerankingModelV4 } from "@ai-sdk/provider";
import { ColdstartError, type AnswerOptions, type EmbedOptions, type ModelPool, type RerankOptions } from "../index.js";
import { languageModel } from "./language-model.js";
import { idOf, take, type ModelOrPool } from "../pool/model-or-pool.js";

export { languageModel };
export type { ModelOrPool };

/** A model for `embed()` and `embedMany()` of the AI SDK. */
export function embeddingModel(
  source: ModelOrPool,
  settings: Omit<EmbedOptions, "signal" | "onProgress"> = {},
): EmbeddingModelV4 {
  return {
    specificationVersion: "v4",
    provider: "coldstart",
    modelId: idOf(source),
    maxEmbeddingsPerCall: Infinity,
    supportsParallelCalls: true,
    doEmbed: async ({ values, dimensions, abortSignal: signal }) => {
      const { model, release } = await take(source, signal);
      try {
        const options = { ...settings, ...(dimensions !== undefined && { dimensions }), ...(signal && { signal }) };
        const { vectors, tokens } = await model.embed(values, options);
        return {
          embeddings: vectors.map((vector) => [...vector]),
          usage: { tokens: tokens.reduce((a, b) => a + b, 0) },
          warnings: [],
        };
      } finally {
        release();
      }
    },
  };
}

/** A model for `rerank()` of the AI SDK. Documents that are objects are read as JSON. */
export function rerankingModel(source: ModelOrPool, settings: Pick<RerankOptions, "truncate"> = {}): RerankingModelV4 {
  return {
    specificationVersion: "v4",
    provider: "coldstart",
    modelId: idOf(source),
    doRerank: async ({ query, documents, topN, abortSignal: signal }) => {
      const { model, release } = await take(source, signal);
      try {
        const texts =
          documents.type === "text" ? documents.values : documents.values.map((value) => JSON.stringify(value));
        const options = { ...settings, ...(topN !== undefined && { topN }), ...(signal && { signal }) };
        const ranked = await model.rerank(query, texts, options);
        return { ranking: ranked.map(({ index, score }) => ({ index, relevanceScore: score })) };
      } finally {
        release();
      }
    },
  };
}

/** The models of a pool, by their names. */
export interface ColdstartProvider extends ProviderV4 {
  (name: string, settings?: AnswerOptions): LanguageModelV4;
  languageModel(name: string, settings?: AnswerOptions): LanguageModelV4;
  embeddingModel(name: string, settings?: Omit<EmbedOptions, "signal" | "onProgress">): EmbeddingModelV4;
  rerankingModel(name: string, settings?: Pick<RerankOptions, "truncate">): RerankingModelV4;
}

/** A provider whose models are those of a pool: each is loaded when it is used. */
export function createColdstart(pool: ModelPool): ColdstartProvider {
  const of = (name: string): ModelOrPool => ({ pool, name });
  const call = (name: string, settings?: AnswerOptions) => languageModel(of(name), settings);
  return Object.assign(call, {
    specificationVersion: "v4" as const,
    languageModel: call,
    embeddingModel: (name: string, settings?: EmbedOptions) => embeddingModel(of(name), settings),
    rerankingModel: (name: string, settings?: RerankOptions) => rerankingModel(of(name), settings),
    imageModel: (name: string): never => {
      throw new ColdstartError("UNSUPPORTED_MODEL", `${name} is asked for images, which coldstart does not make.`, {
        remedy: "Use another provider for images.",
      });
    },
  });
}
