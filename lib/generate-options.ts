// The options of model.generate(), checked and made into the engine's request.

import type { AdapterChoice, AdapterUse } from "./adapters.js";
import { ColdstartError } from "./errors.js";
import { checkPart, toNative, type ContentPart, type MediaPart } from "./media.js";
import type { NativeMedia, NativeRequest } from "./native.js";
import { invalidOption, OptionReader } from "./options.js";
import { checkFormat, type ResponseFormat } from "./structured/response-format.js";
import type { CheckedSchema } from "./structured/schema.js";

/** The largest seed. 2^32 - 1 means "random" to llama.cpp. */
const MAX_SEED = 2 ** 32 - 2;
const INT32_MAX = 2 ** 31 - 1;

export interface GenerateOptions<T = unknown> {
  /** Most tokens to generate. Default: as many as the context still holds. */
  maxTokens?: number;
  /**
   * What happens when prompt and answer do not fit the context length. Default `"error"`.
   *
   * - `"error"`: refuse at once, with `CONTEXT_OVERFLOW`. Without `maxTokens`, end when the context is full.
   * - `"stop"`: end when the context is full, with `finishReason: "context"`.
   * - `"shift"`: then drop the older half of the text and go on. What is left is computed again.
   * - `"truncateMiddle"`: of a prompt that is too long, drop the middle, so that there is room for `maxTokens` (at most
   *   half of the context; without it a quarter); end when the context is full.
   */
  overflow?: "error" | "stop" | "shift" | "truncateMiddle";
  /**
   * What is added to the model for this one: adapters of `model.loadAdapter()` and `model.adapters`, and by how much each counts; what
   * several add is added up. Default: those that the model was loaded with, by the scales given there. `[]`: the model alone.
   */
  adapters?: readonly AdapterChoice[];
  /** Among waiting generations, those of higher priority start first; a whole number, default 0. */
  priority?: number;
  /** Sharpness of the distribution, 0 to 100: 0 always takes the most likely token. Default 0.8. */
  temperature?: number;
  /** Sample from the `topK` most likely tokens; 0 from all. Default 40. */
  topK?: number;
  /** Sample from the most likely tokens whose probabilities add up to this (nucleus sampling), above 0, at most 1. Default 0.95. */
  topP?: number;
  /** Drop tokens less likely than this share of the most likely one, 0 to 1. Default 0.05. */
  minP?: number;
  /** Locally typical sampling, above 0, at most 1; 1 is off. Default 1. */
  typicalP?: number;
  /** Exclude top choices: with `probability`, drop all tokens above `threshold` but the least likely of them. */
  xtc?: {
    /** 0 (default, off) to 1. */
    probability?: number;
    /** 0 to 1, default 0.1. */
    threshold?: number;
  };
  /** "Don't repeat yourself": penalize tokens that would continue a repetition. */
  dry?: {
    /** Strength, at least 0; 0 (default) is off. */
    multiplier?: number;
    /** Growth of the penalty with the repetition's length, at least 1. Default 1.75. */
    base?: number;
    /** Repetitions up to this many tokens are free. Default 2. */
    allowedLength?: number;
    /** Tokens to look back at. Default: the context length. */
    lastTokens?: number;
    /** Strings that end a repetition. Default: newline, colon, double quote, asterisk. */
    breakers?: string[];
  };
  /** Mirostat replaces topK, topP, minP, typicalP and xtc by control of perplexity. */
  mirostat?: {
    /** 1 or 2; 0 (default) is off. */
    version?: 0 | 1 | 2;
    /** Target surprise in bits, above 0. Default 5. */
    tau?: number;
    /** Learning rate, above 0, at most 1. Default 0.1. */
    eta?: number;
  };
  /** Divide the logits of recent tokens by this, above 0; 1 (default) is off. */
  repeatPenalty?: number;
  /** Subtract this for each time a token occurred recently, -100 to 100. Default 0. */
  frequencyPenalty?: number;
  /** Subtract this once when a token occurred recently, -100 to 100. Default 0. */
  presencePenalty?: number;
  /** How many recent tokens the three penalties look at, the prompt's included. Default 64. */
  penaltyLastTokens?: number;
  /** Added to the logits of tokens, by token id; `-Infinity` bans one. */
  logitBias?: Record<number, number> | Map<number, number>;
  /** A GBNF grammar that the answer must follow; its start is the rule `root`. */
  grammar?: string;
  /** What the answer is: JSON as a schema says, or what a pattern matches; not with `grammar`. `json()` reads it. */
  responseFormat?: ResponseFormat<T>;
  /**
   * What comes after the answer: it is filled in between the prompt, a string, and this. For models whose vocabulary has tokens for
   * that. The text of special tokens is not read as such then.
   */
  suffix?: string;
  /** Strings that end the answer; they are not part of it. */
  stop?: string | string[];
  /** 0 to 2^32 - 2. The same request with the same seed gives the same tokens. Default: from the model's `seed`, or random; the result says which. */
  seed?: number;
  /** Report log-probabilities: `true` for each token, a number (0 to 100) also for that many most likely ones. Default false. */
  logprobs?: boolean | number;
  /** Read the text of special tokens in the prompt, such as `<|im_end|>`, as those tokens. Set false for text you do not trust. Default true. */
  parseSpecial?: boolean;
  /** Ends the generation: its result resolves with `finishReason: "aborted"` and the text so far. */
  signal?: AbortSignal;
}

const NAMES = [
  "maxTokens", "overflow", "adapters", "priority", "temperature", "topK", "topP", "minP", "typicalP", "xtc", "dry", "mirostat", "repeatPenalty",
  "frequencyPenalty", "presencePenalty", "penaltyLastTokens", "logitBias", "grammar", "responseFormat", "suffix", "stop", "seed", "logprobs",
  "parseSpecial", "signal",
] as const satisfies readonly (keyof GenerateOptions)[]; // prettier-ignore

export type Prompt = string | readonly number[] | Int32Array;
/** Text with images or recordings in between. */
export type MixedPrompt = readonly (string | ContentPart)[];

/** A request without its id, and what stays in JavaScript. */
export interface CheckedRequest {
  request: Omit<NativeRequest, "id">;
  signal: AbortSignal | undefined;
  /** JSON: what the answer has to fit. */
  schema?: string | undefined;
  validate?: CheckedSchema["validate"] | undefined;
}

/** What options are checked against: a loaded model. */
export interface OptionsHost {
  /** What stands in prompts for images and recordings; empty: there can be none. */
  mediaMarker: string;
  /** Tokens of one request. */
  contextLength: number;
  /** The seed of a request whose options have none. */
  nextSeed: () => number;
  adapters: { choose(value: unknown): AdapterUse[] };
}

/** For what samples nothing, and uses up no seed. */
export function withoutSeed<Host extends OptionsHost>(host: Host): Host {
  return { ...host, nextSeed: () => 0 };
}

export function checkGenerate(
  prompt: Prompt | MixedPrompt,
  options: GenerateOptions,
  { contextLength, nextSeed, adapters, mediaMarker }: OptionsHost,
): CheckedRequest {
  const read = new OptionReader(options, NAMES);
  const xtc = read.nested("xtc", ["probability", "threshold"]);
  const dry = read.nested("dry", ["multiplier", "base", "allowedLength", "lastTokens", "breakers"]);
  const mirostat = read.nested("mirostat", ["version", "tau", "eta"]);
  const maxTokens = read.integer("maxTokens", 1, INT32_MAX, undefined);

  const { grammar, schema, validate } = checkFormat(read.raw("responseFormat"), read.string("grammar", ""));

  const suffix = read.raw("suffix");
  if (suffix !== undefined && (typeof suffix !== "string" || typeof prompt !== "string"))
    throw invalidOption("suffix", suffix, "a string, of a prompt that is a string");
  const signal = read.signal();
  return {
    signal,
    schema,
    validate,
    request: {
      cancelled: signal?.aborted ?? false,
      history: new Int32Array(),
      ...(suffix !== undefined && prompt === "" ? { prompt, media: [] } : checkMixed(prompt, mediaMarker)),
      ...(suffix !== undefined && { suffix }),
      parseSpecial: read.boolean("parseSpecial", true),
      ...(maxTokens === undefined ? {} : { maxTokens }),
      overflow: read.choice("overflow", ["error", "stop", "shift", "truncateMiddle"] as const, "error"),
      adapters: adapters.choose(read.raw("adapters")),
      priority: read.integer("priority", -1_000_000, 1_000_000, 0),
      snapshot: false,
      reportTokens: false,
      stop: read.strings("stop", []),
      temperature: read.number("temperature", { min: 0, max: 100 }, 0.8),
      topK: read.integer("topK", 0, INT32_MAX, 40),
      topP: read.number("topP", { min: 0, max: 1, above: true }, 0.95),
      minP: read.number("minP", { min: 0, max: 1 }, 0.05),
      typicalP: read.number("typicalP", { min: 0, max: 1, above: true }, 1),
      xtcProbability: xtc.number("probability", { min: 0, max: 1 }, 0),
      xtcThreshold: xtc.number("threshold", { min: 0, max: 1 }, 0.1),
      dryMultiplier: dry.number("multiplier", { min: 0, max: 100 }, 0),
      dryBase: dry.number("base", { min: 1, max: 100 }, 1.75),
      dryAllowedLength: dry.integer("allowedLength", 0, INT32_MAX, 2),
      dryLastTokens: dry.integer("lastTokens", 0, contextLength, contextLength),
      dryBreakers: dry.strings("breakers", ["\n", ":", '"', "*"]),
      mirostat: mirostat.choice("version", [0, 1, 2] as const, 0),
      mirostatTau: mirostat.number("tau", { min: 0, max: 100, above: true }, 5),
      mirostatEta: mirostat.number("eta", { min: 0, max: 1, above: true }, 0.1),
      repeatPenalty: read.number("repeatPenalty", { min: 0, max: 100, above: true }, 1),
      frequencyPenalty: read.number("frequencyPenalty", { min: -100, max: 100 }, 0),
      presencePenalty: read.number("presencePenalty", { min: -100, max: 100 }, 0),
      penaltyLastTokens: read.integer("penaltyLastTokens", 0, contextLength, Math.min(64, contextLength)),
      logitBias: checkLogitBias(read.raw("logitBias")),
      grammar,
      seed: read.integer("seed", 0, MAX_SEED, undefined) ?? nextSeed(),
      logprobs: checkLogprobs(read.raw("logprobs")),
    },
  };
}

function checkMixed(
  prompt: Prompt | MixedPrompt,
  marker: string,
): { prompt: string | Int32Array; media: NativeMedia[] } {
  const isMixed = (value: Prompt | MixedPrompt): value is MixedPrompt =>
    Array.isArray(value) && value.some((part) => typeof part !== "number");
  if (!isMixed(prompt)) return { prompt: checkPrompt(prompt, "prompt"), media: [] };
  const parts: (string | MediaPart)[] = prompt.map((part, i) => {
    if (typeof part === "string") return part;
    checkPart(part, `prompt[${i}]`);
    if (part.type === "text") return part.text;
    if (marker === "") throw noProjector();
    return part;
  });
  const media = parts.filter((part) => typeof part !== "string").map(toNative);
  return {
    prompt: checkPrompt(parts.map((part) => (typeof part === "string" ? part : marker)).join(""), "prompt"),
    media,
  };
}

/** What is said where images or recordings are given to a model that has no projector. */
export function noProjector(): ColdstartError {
  return new ColdstartError(
    "UNSUPPORTED_MODEL",
    "Images and recordings take a projector, and the model was loaded without one.",
    { remedy: 'Load it with mmproj: the path of its projector, or "auto". Not every model has one.' },
  );
}

export function checkPrompt(prompt: Prompt, name: string): string | Int32Array {
  const expected = "a string with at least one character, or an array of at least one token id";
  if (typeof prompt === "string") {
    if (prompt === "") throw invalidOption(name, prompt, expected);
    return prompt;
  }
  const tokens = checkTokens(name, prompt);
  if (tokens.length === 0) throw invalidOption(name, prompt, expected);
  return tokens;
}

/** Token ids as the engine takes them; whether the vocabulary has them is checked there. */
export function checkTokens(name: string, tokens: unknown): Int32Array {
  if (tokens instanceof Int32Array) return tokens;
  if (!Array.isArray(tokens)) throw invalidOption(name, tokens, "an array of token ids");
  const bad = tokens.findIndex(
    (token) => !Number.isInteger(token) || (token as number) < 0 || (token as number) > INT32_MAX,
  );
  if (bad !== -1) throw invalidOption(`${name}[${bad}]`, tokens[bad], "a token id");
  return Int32Array.from(tokens as number[]);
}

function checkLogitBias(value: unknown): [number, number][] {
  if (value === undefined) return [];
  if (typeof value !== "object" || value === null)
    throw invalidOption("logitBias", value, "an object or a Map from token ids to numbers");
  const entries: [unknown, unknown][] = value instanceof Map ? [...value] : Object.entries(value);
  return entries.map(([key, bias]) => {
    const token = Number(key);
    if (!Number.isInteger(token) || token < 0 || token > INT32_MAX)
      throw invalidOption("A key of logitBias", key, "a token id");
    const usable = typeof bias === "number" && (Number.isFinite(bias) || bias === -Infinity);
    if (!usable) throw invalidOption(`logitBias[${token}]`, bias, "a finite number or -Infinity");
    return [token, bias];
  });
}

function checkLogprobs(value: unknown): number {
  if (value === undefined || value === false) return -1;
  if (value === true) return 0;
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > 100) {
    throw invalidOption("logprobs", value, "true, false or a whole number from 0 to 100");
  }
  return value;
}
