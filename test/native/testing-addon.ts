// The pure parts of native/, as native/testing/testing_addon.cc exports them.

import { createRequire } from "node:module";
import { ColdstartError } from "../../lib/errors.js";
import type { GgufHeader } from "../../lib/native.js";

/** One request, as the scheduler sees it. */
export interface Pending {
  /** Not yet computed: the rest of the prompt, or 1 while generating. */
  tokens: number;
  decoding: boolean;
}

/** What a text stream released. */
export interface Streamed {
  /** For each piece, the text that became certain with it. */
  texts: Buffer[];
  /** What was held back until the end. */
  rest: Buffer;
  /** The stop string that ended the text. */
  matched?: string;
}

/** What attention is computed over, in F32; K and V are converted to `type` first. */
export interface AttentionInput {
  headSize: number;
  /** Rows of Q. */
  tokens: number;
  /** Rows of K and V. */
  positions: number;
  heads: number;
  keyValueHeads: number;
  type: string;
  /** [heads][tokens][headSize] */
  q: Float32Array;
  /** [keyValueHeads][positions][headSize] */
  k: Float32Array;
  v: Float32Array;
  /** [tokens][positions]; 0 is masked. */
  shown: Uint8Array;
  threads: number;
}

export type PrefixTreeOperation =
  | [name: "append", holder: number, tokens: Int32Array, root: number]
  | [name: "truncate", holder: number, length: number]
  | [name: "erase" | "length" | "exclusive", holder: number]
  | [name: "longest" | "longestWhole", holder: -1, tokens: Int32Array, root: number];

export interface PrefixMatch {
  length: number;
  holders: number[];
}

/** Of llama_model_quantize(): ggml's names of types, and llama.cpp's number of the mixture. */
export interface LlamaQuantizeOptions {
  fileType: number;
  pure?: boolean;
  leaveOutputTensor?: boolean;
  keepSplit?: boolean;
  outputTensorType?: string;
  tokenEmbeddingType?: string;
  tensorTypes?: { pattern: string; type: string }[];
  /** Weights of the columns of each matrix, by its name. */
  importance?: Record<string, Float32Array>;
}

interface TestingAddon {
  setErrorClass(errorClass: typeof ColdstartError): void;
  readGguf(bytes: Uint8Array, arrayLimit: number): GgufHeader;
  textStream(stop: string[], pieces: Uint8Array[]): Streamed;
  /** [tokens][heads][headSize], by ggml's CPU back end. */
  attention(input: AttentionInput): Float32Array;
  /** Answers to operations on one tree: its size, a match, a number. */
  prefixTree(operations: PrefixTreeOperation[]): (number | PrefixMatch)[];
  largestLogits(
    logits: Float32Array,
    k: number,
    updates: [token: number, logit: number][],
  ): { largest: number; top: number[] };
  /** Tokens guessed in each step, of which so many would have been right. */
  guessLength(right: number[]): number[];
  /** The token for each random number. */
  drawToken(logits: Float32Array, temperature: number, topP: number, minP: number, randoms: Float64Array): number[];
  /** Threads in use after each stretch of computing, given its seconds and CPU seconds. */
  threadGovernor(most: number, stretches: [wall: number, cpu: number][]): number[];
  /** Why files cannot be read past the page cache; empty if they can. */
  whyNotDirect(files: string[]): string;
  /** What users are told of llama.cpp's warnings. */
  fallbacks(path: string, warnings: string[]): string[];
  /** Reads files ahead, to their end or given up at once; then how much of each is in the page cache, 0 to 1. */
  prefetch(files: string[], giveUp: boolean): { finished: boolean; cached: (number | undefined)[] };
  /** Throws what is wrong with a grammar, for a model with so many tokens, of which these are known by their texts. */
  checkGrammar(grammar: string, tokens: number, known: string[]): void;
  /** What llama.cpp says of it, on standard error also. */
  llamaTakesGrammar(grammar: string): boolean;
  /** Whether the whole text follows the grammar, by llama.cpp. */
  grammarTakes(grammar: string, text: string): boolean;
  /** GBNF of texts that the pattern matches as a whole, or of JSON strings that it is found in; or "!" and what is the matter. */
  grammarOfPattern(pattern: string, json: boolean): string;
  /** What is known after the beginning, and after each token. */
  thinking(
    options: { start: string; ends: string[]; budget?: number; message: string },
    beginning: string,
    tokens: [id: number, bytes: Uint8Array][],
  ): { active: boolean; exhausted: boolean; endedWith: number[] }[];
  /** Of this CPU, of those that there is code for; "any" is ggml's own code. */
  availableInstructions(): string[];
  /** Rows to blocks of a type; `valid` says that no scale is NaN or infinite. */
  quantizeRows(
    type: string,
    values: Float32Array,
    columns: number,
    importance: Float32Array | undefined,
    instructions: string,
  ): { bytes: Uint8Array; valid: boolean };
  /** Blocks to F32; `finite` says that there is no NaN and no infinity. */
  widenRow(
    type: string,
    bytes: Uint8Array,
    count: number,
    instructions: string,
  ): { values: Float32Array; finite: boolean };
  llamaQuantize(input: string, output: string, options: LlamaQuantizeOptions): void;
  planStep(requests: Pending[], budget: { tokens: number; prompts: number }, start: number): number[];
}

export const testing = createRequire(import.meta.url)("../../build/testing/coldstart_testing.node") as TestingAddon;
testing.setErrorClass(ColdstartError);
