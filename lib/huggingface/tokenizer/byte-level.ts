// Byte pair encoding over bytes (GPT-2's and all that followed): GGUF calls it "gpt2", and how a text is split into words
// before by a name of llama.cpp's. A definition of Hugging Face's is compared with those whose name is known.

import { invalidCheckpoint, unsupported } from "../errors.js";
import { string, type Entry } from "../../gguf/encode.js";
import { JsonObject, type Json } from "../json.js";
import { readAddedTokens, Vocabulary, type Token } from "./vocabulary.js";

const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const WORD = String.raw`[^\r\n\p{L}\p{N}]?\p{L}+`;
const REST = String.raw` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
const UPPER = String.raw`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`;
const LOWER = String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]`;

const split = (regex: string): Json => ({
  type: "Split",
  pattern: { Regex: regex },
  behavior: "Isolated",
  invert: false,
});
const byteLevel = (useRegex: boolean): Json => ({ type: "ByteLevel", add_prefix_space: false, use_regex: useRegex });

interface PreTokenizer {
  name: string;
  steps: Json[];
  /** Whether words that are tokens are taken as such, whatever the merges say; null: llama.cpp does, and merges agree. */
  ignoresMerges: boolean | null;
}

/** The names are those of llama-vocab.cpp, where their regular expressions are, too. */
const KNOWN: readonly PreTokenizer[] = [
  {
    name: "llama-bpe",
    steps: [split(String.raw`${CONTRACTIONS}|${WORD}|\p{N}{1,3}|${REST}`), byteLevel(false)],
    ignoresMerges: true,
  },
  {
    name: "dbrx",
    steps: [split(String.raw`${CONTRACTIONS}|${WORD}|\p{N}{1,3}|${REST}`), byteLevel(false)],
    ignoresMerges: false,
  },
  {
    name: "qwen2",
    steps: [split(String.raw`${CONTRACTIONS}|${WORD}|\p{N}|${REST}`), byteLevel(false)],
    ignoresMerges: false,
  },
  {
    name: "tekken",
    steps: [
      split(
        String.raw`[^\r\n\p{L}\p{N}]?${UPPER}*${LOWER}+|[^\r\n\p{L}\p{N}]?${UPPER}+${LOWER}*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
      ),
      byteLevel(false),
    ],
    ignoresMerges: null,
  },
  { name: "smollm", steps: [{ type: "Digits", individual_digits: true }, byteLevel(true)], ignoresMerges: false },
  { name: "gpt-2", steps: [byteLevel(true)], ignoresMerges: false },
];

/** Whether its pre-tokenizer makes bytes of the text. */
export function isByteLevel(tokenizer: JsonObject): boolean {
  return stepsOf(tokenizer).some((step) => (step as { type?: Json } | null)?.type === "ByteLevel");
}

export interface ReadTokenizer {
  tokens: Token[];
  metadata: Entry[];
}

export function readByteLevel(tokenizer: JsonObject, vocabularySize: number): ReadTokenizer {
  const model = checkModel(tokenizer);
  checkNormalizer(tokenizer);
  const where = tokenizer.where;
  const vocabulary = new Vocabulary(vocabularySize);
  const vocab = model.object("vocab");
  if (vocab === undefined) throw model.wrong("vocab", "must be an object");
  for (const text of vocab.keys()) vocabulary.set(vocab.number(text), { text, type: "normal", score: 0 }, where);
  for (const token of readAddedTokens(tokenizer)) vocabulary.add(token);
  const merges = readMerges(model);
  for (const [left, right] of merges) {
    for (const part of [left, right, left + right]) {
      if (vocab.get(part) === undefined)
        throw invalidCheckpoint(`A merge of ${where} has ${JSON.stringify(part)}, which is no token.`, { file: where });
    }
  }
  return {
    tokens: vocabulary.finish(),
    metadata: [
      string("tokenizer.ggml.model", "gpt2"),
      string("tokenizer.ggml.pre", preTokenizerOf(tokenizer, model)),
      { key: "tokenizer.ggml.merges", type: "array", of: "string", values: merges.map((pair) => pair.join(" ")) },
    ],
  };
}

/** @internal Its model, which must be byte pair encoding without the variations that llama.cpp does not know. */
export function checkModel(tokenizer: JsonObject): JsonObject {
  const model = tokenizer.object("model");
  if (model === undefined) throw tokenizer.wrong("model", "must be an object");
  const type = model.string("type") ?? "BPE";
  if (type !== "BPE") throw unsupported(`The tokenizer's model is ${type}, and must be BPE.`, { tokenizer: type });
  for (const name of ["dropout", "continuing_subword_prefix", "end_of_word_suffix"]) {
    const value = model.get(name);
    if (value !== undefined && value !== "" && value !== 0)
      throw unsupported(`The tokenizer's model has ${name}: ${JSON.stringify(value)}, which is not known.`, {
        name,
        value,
      });
  }
  return model;
}

export function readMerges(model: JsonObject): [string, string][] {
  const merges = model.array("merges");
  if (merges === undefined) throw model.wrong("merges", "must be an array");
  return merges.map((merge) => {
    const pair = typeof merge === "string" ? merge.split(" ") : merge;
    const [left, right, ...rest] = Array.isArray(pair) ? pair : [];
    if (
      typeof left !== "string" ||
      typeof right !== "string" ||
      rest.length > 0 ||
      /^$| /.test(left) ||
      /^$| /.test(right)
    )
      throw model.wrong("merges", `must be pairs of tokens, and one is ${JSON.stringify(merge)}`);
    return [left, right];
  });
}

function checkNormalizer(tokenizer: JsonObject): void {
  const type = tokenizer.object("normalizer")?.string("type");
  // llama.cpp leaves the text as it is. That is the same for text in NFC, which nearly all text is.
  if (type !== undefined && type !== "NFC")
    throw unsupported(`The tokenizer's normalizer is ${type}; known: NFC, none.`, { normalizer: type });
}

function preTokenizerOf(tokenizer: JsonObject, model: JsonObject): string {
  if (model.boolean("byte_fallback", false))
    throw unsupported("The tokenizer's model has byte_fallback, and its pre-tokenizer makes bytes of all text.");
  const definition = canonical(stepsOf(tokenizer));
  const ignoresMerges = model.boolean("ignore_merges", false);
  const found = KNOWN.find(
    ({ steps, ignoresMerges: wanted }) =>
      canonical(steps) === definition && (wanted === null || wanted === ignoresMerges),
  );
  if (found === undefined) {
    throw unsupported(
      `The tokenizer's pre-tokenizer is not known: ${definition.slice(0, 400)}, ignore_merges ${ignoresMerges}.`,
      { preTokenizer: definition, ignoresMerges },
    );
  }
  return found.name;
}

function stepsOf(tokenizer: JsonObject): Json[] {
  const preTokenizer = tokenizer.object("pre_tokenizer");
  if (preTokenizer === undefined) return [];
  return preTokenizer.string("type") === "Sequence"
    ? (preTokenizer.array("pretokenizers") ?? [])
    : [tokenizer.get("pre_tokenizer") ?? null];
}

/** As text, with keys in order, and without what does not change tokens. */
function canonical(value: Json): string {
  return JSON.stringify(value, (key, item: Json) => {
    if (key === "trim_offsets") return undefined;
    if (typeof item !== "object" || item === null || Array.isArray(item)) return item;
    return Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}
