// Long texts in pieces of equal length, as llama.cpp's tools cut them.

import { ColdstartError } from "./errors.js";
import type { Model } from "./model.js";

export interface TextChunks {
  /** All of the same length. */
  chunks: Int32Array[];
  /** Of the whole text, what is left after the last chunk included. */
  tokens: Int32Array;
}

/**
 * Each chunk begins as the whole text does, where the model wants that: with the beginning-of-text token, in the place of the
 * token that is there.
 *
 * Throws `CONTEXT_OVERFLOW` for a length that the model does not have, `INVALID_OPTION` for a text of less than a chunk.
 */
export async function toChunks(
  model: Model,
  texts: readonly string[],
  length: number,
  parseSpecial: boolean,
): Promise<TextChunks> {
  const { contextLength } = model.placement;
  if (length > contextLength) {
    throw new ColdstartError(
      "CONTEXT_OVERFLOW",
      `A chunk has ${length} tokens, and the context length is ${contextLength}.`,
      {
        remedy: "Lower chunkLength, or load the model with a larger contextLength.",
        details: { chunkLength: length, contextLength },
      },
    );
  }
  const parts: number[][] = [];
  for (const text of texts) parts.push(await model.tokenize(text, { parseSpecial }));
  const tokens = Int32Array.from(parts.flat());
  const count = Math.floor(tokens.length / length);
  if (count === 0) {
    throw new ColdstartError("INVALID_OPTION", `The text has ${tokens.length} tokens, and a chunk ${length}.`, {
      remedy: "Give a longer text, or lower chunkLength.",
      details: { tokens: tokens.length, chunkLength: length },
    });
  }
  const { bos } = model.info.vocabulary;
  const begins = bos !== undefined && tokens[0] === bos;
  const chunks = Array.from({ length: count }, (_, i) => {
    const chunk = tokens.slice(i * length, (i + 1) * length);
    if (begins) chunk[0] = bos;
    return chunk;
  });
  return { chunks, tokens };
}
