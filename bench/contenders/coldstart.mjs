// What the scripts of coldstart share.

import { TEMPERATURE, TOP_K, TOP_P } from "./job.mjs";

/** Options of `generate()`: the sampling of all contenders, and an answer of just so many tokens. */
export function sampling(model, maxTokens) {
  const { eos } = model.info.vocabulary;
  const logitBias = eos === undefined ? {} : { [eos]: -Infinity };
  return { temperature: TEMPERATURE, topK: TOP_K, topP: TOP_P, minP: 0, maxTokens, logitBias };
}

/** Milliseconds from the call to the first token, as the caller sees it, and the whole answer. */
export async function timeToFirstToken(model, prompt, options) {
  const started = performance.now();
  const generation = model.generate(prompt, options);
  let first;
  for await (const _ of generation) first ??= performance.now() - started;
  return { first, tokens: (await generation.result).tokens };
}
