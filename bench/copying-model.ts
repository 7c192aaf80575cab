// Makes a random model into one that copies: after a word comes the next one of a phrase, mostly. Its shape, and so its
// speed, stays what it was.

import { rewriteGguf, tensorBytes } from "../test/support/gguf-writer.js";
import { F16, type Shape } from "../test/support/random-model.js";

/** The phrase is these tokens in this order, again and again; contenders/lookup.coldstart.mjs begins with it. */
const FIRST = 300;
const LENGTH = 24;

/**
 * Layers add nothing to a token's embedding, and the output's rows are the embeddings of the word before. A word outside
 * the phrase, which sampling picks now and then, leads back into it.
 */
export function copying(file: Buffer, { type, width, vocabulary }: Shape): Buffer {
  const bytes = tensorBytes({ type, shape: [width] });
  return rewriteGguf(file, (draft) => {
    for (const { name, data } of draft.tensors) {
      if (typeof name === "string" && /attn_output|ffn_down/.test(name)) data.fill(0);
    }
    const embedding = draft.tensor("token_embd.weight").data;
    const output = draft.tensor("output.weight").data;
    const row = (of: Uint8Array, token: number) => of.subarray(token * bytes, (token + 1) * bytes);
    for (let i = 0; i < LENGTH; i++) {
      const next = row(output, FIRST + ((i + 1) % LENGTH));
      next.set(row(embedding, FIRST + i));
      if (type !== F16) weaken(next);
    }
    for (let token = 0; token < vocabulary; token++) {
      const inPhrase = token >= FIRST && token < FIRST + LENGTH;
      if (!inPhrase) row(embedding, token).set(row(embedding, FIRST + (token % LENGTH)));
    }
  });
}

/**
 * Makes a row of Q4_0 smaller, by 5/16: the wider a model, the surer it is of the next word, and this one would never err.
 * A block of 18 bytes begins with its scale, which is 2^-7 in a matrix of this width, as an F16.
 */
function weaken(row: Uint8Array): void {
  for (let at = 0; at < row.length; at += 18) row.set([0x00, 0x19], at); // 5/16 * 2^-7
}
