// POST /v1/embeddings, /v1/rerank

import { badRequest } from "./errors.js";
import type { Exchange } from "./exchange.js";

export interface EmbeddingsBody {
  model?: string;
  input: string | string[] | number[] | number[][];
  encoding_format?: "float" | "base64" | null;
  dimensions?: number | null;
}

export async function embeddings(body: EmbeddingsBody, exchange: Exchange): Promise<unknown> {
  const { signal } = exchange;
  return exchange.models.use(body.model, signal, async (model, name) => {
    const inputs = typeof body.input === "string" ? [body.input] : body.input;
    if (inputs.length === 0) throw badRequest("input is empty.", "input");
    if (inputs.some((input) => typeof input !== "string"))
      throw badRequest("input has token ids. Give texts: vectors are made of texts.", "input");
    const { dimensions } = body;
    const { vectors, tokens } = await model.embed(inputs as string[], {
      ...(typeof dimensions === "number" && { dimensions }),
      signal,
    });
    const total = tokens.reduce((sum, one) => sum + one, 0);
    const encode = (vector: Float32Array) =>
      body.encoding_format === "base64"
        ? Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength).toString("base64")
        : [...vector];
    return {
      object: "list",
      model: name,
      data: vectors.map((vector, index) => ({ object: "embedding", index, embedding: encode(vector) })),
      usage: { prompt_tokens: total, total_tokens: total },
    };
  });
}

export interface RerankBody {
  model?: string;
  query: string;
  documents: (string | { text: string })[];
  top_n?: number | null;
  return_documents?: boolean | null;
}

/** As Jina and Cohere have it. */
export async function rerank(body: RerankBody, exchange: Exchange): Promise<unknown> {
  const { signal } = exchange;
  return exchange.models.use(body.model, signal, async (model, name) => {
    const documents = body.documents.map((document) => (typeof document === "string" ? document : document.text));
    const { top_n: topN } = body;
    const ranked = await model.rerank(body.query, documents, { ...(typeof topN === "number" && { topN }), signal });
    return {
      model: name,
      results: ranked.map(({ index, score, document }) => ({
        index,
        relevance_score: score,
        ...(body.return_documents && { document: { text: document } }),
      })),
    };
  });
}
