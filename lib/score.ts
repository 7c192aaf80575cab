// How likely a model finds a text.

import type { AdapterChoice } from "./adapters.js";
import type { Engine } from "./engine.js";
import { ColdstartError } from "./errors.js";
import {
  checkGenerate,
  checkPrompt,
  checkTokens,
  withoutSeed,
  type GenerateOptions,
  type OptionsHost,
  type Prompt,
} from "./generate-options.js";
import type { NativeRequest, NativeScored } from "./native.js";
import { invalidOption, OptionReader } from "./options.js";
import { prefill } from "./prefill.js";

export interface ScoreOptions {
  /** What precedes the text. It is not scored itself. */
  given?: Prompt;
  /** Read the text of special tokens as those tokens. Default true. */
  parseSpecial?: boolean;
  /** What is added to the model for this; see `GenerateOptions.adapters`. */
  adapters?: readonly AdapterChoice[];
  /** Among what waits, those of higher priority start first; a whole number, default 0. */
  priority?: number;
  /** Rejects with `ABORTED`. */
  signal?: AbortSignal;
}

/** How likely a model finds a text: of each token, given all that precede it. */
export interface Score {
  /** Those that were scored. The first token of a text that nothing precedes is none of them. */
  tokens: number[];
  /** Natural logarithm of each token's probability, in the model's own distribution. */
  logprobs: number[];
  /** What the model found the most likely at each place. */
  likeliest: number[];
  /** The whole text's: the sum of `logprobs`. */
  logprob: number;
  /** `exp(-logprob / tokens.length)`. */
  perplexity: number;
  /** Tokens that precede those that were scored. */
  givenTokens: number;
  /** Of them, those that did not have to be computed again. */
  cachedTokens: number;
}

/** The parts of a model that scoring needs. */
export interface ScoreHost extends OptionsHost {
  engine: Engine;
}

/** How tokens are scored. */
export interface ScoreTokensOptions {
  adapters?: ScoreOptions["adapters"] | undefined;
  priority?: number | undefined;
  signal?: AbortSignal | undefined;
  /** Also tell how likely every token of the vocabulary was. */
  distributions?: boolean;
  /** Distributions that another model told, to compare with. */
  base?: Uint8Array | undefined;
}

/** Which tokens are scored: those from the index `from` on. */
export interface ScoredTokens {
  tokens: Int32Array;
  from: number;
}

export async function score(host: ScoreHost, text: Prompt, options: ScoreOptions): Promise<Score> {
  const read = new OptionReader(options, ["given", "parseSpecial", "adapters", "priority", "signal"]);
  const { adapters, priority, signal } = options;
  const parseSpecial = read.boolean("parseSpecial", true);
  const given = read.raw("given") as Prompt | undefined;
  const { tokens, from } = await tokensToScore(host.engine, text, given, parseSpecial);
  const { scored, cachedTokens } = await scoreTokens(host, { tokens, from }, { adapters, priority, signal });
  const logprobs = [...scored.logprobs];
  const logprob = logprobs.reduce((sum, one) => sum + one, 0);
  return {
    tokens: [...tokens.subarray(from)],
    logprobs,
    likeliest: [...scored.likeliest],
    logprob,
    perplexity: Math.exp(-logprob / logprobs.length),
    givenTokens: from,
    cachedTokens,
  };
}

/**
 * Two strings are tokenized as one, since a token may reach over the place where they meet: then it is scored. So the text of
 * several ways to go on is told apart at the same place.
 */
async function tokensToScore(
  engine: Engine,
  text: Prompt,
  given: Prompt | undefined,
  parseSpecial: boolean,
): Promise<ScoredTokens> {
  checkPrompt(text, "text");
  if (given !== undefined) checkPrompt(given, "given");
  const tokenize = async (prompt: Prompt, begins: boolean) =>
    typeof prompt === "string" ? engine.tokenize(prompt, begins, parseSpecial) : checkTokens("tokens", prompt);
  if (given === undefined) return atLeastTwo(Int32Array.from(await tokenize(text, true)), 1);
  const before = await tokenize(given, true);
  if (typeof given !== "string" || typeof text !== "string") {
    return atLeastTwo(Int32Array.from([...before, ...(await tokenize(text, false))]), before.length);
  }
  const whole = Int32Array.from(await tokenize(given + text, true));
  let common = 0;
  while (common < before.length && common < whole.length - 1 && before[common] === whole[common]) common++;
  return atLeastTwo(whole, Math.max(common, 1));
}

function atLeastTwo(tokens: Int32Array, from: number): ScoredTokens {
  if (from < tokens.length) return { tokens, from };
  throw invalidOption("text", "one token that nothing precedes", "a text of at least two tokens, or have given");
}

/** @internal Of tokens that are checked. Rejects as `model.score()`. */
export async function scoreTokens(
  host: ScoreHost,
  { tokens, from }: ScoredTokens,
  { distributions = false, base, ...options }: ScoreTokensOptions,
): Promise<{ scored: NativeScored; cachedTokens: number }> {
  const { request, signal } = checkGenerate(tokens, options as GenerateOptions, withoutSeed(host));
  const score: NativeRequest["score"] = { from, distributions, ...(base && { base }) };
  const { finished, scored } = await prefill(host.engine, { ...request, score }, signal);
  if (scored !== undefined) return { scored, cachedTokens: finished.cachedTokens };
  throw new ColdstartError("ABORTED", "Scoring was aborted.", {
    remedy: "Nothing was kept; start again when needed.",
    cause: signal?.reason,
  });
}
