// SentencePiece (Kudo and Richardson 2018, arXiv:1808.06226), of the kind that merges pairs: GGUF calls it "llama". Read
// from tokenizer.model, or from a tokenizer.json that was made of one.

import { invalidCheckpoint, unsupported } from "../errors.js";
import { boolean, string } from "../../gguf/encode.js";
import { decodeUtf8, JsonObject, type Json } from "../json.js";
import { checkModel, readMerges, type ReadTokenizer } from "./byte-level.js";
import { readAddedTokens, Vocabulary, type AddedToken, type Token, type TokenType } from "./vocabulary.js";

/** Stands for a space in pieces. */
const SPACE = "\u2581";
const BYTE_TOKEN = /^<0x[0-9A-F]{2}>$/;

/** Of sentencepiece_model.proto: SentencePiece.Type. */
const PIECE_TYPES: Readonly<Record<number, TokenType>> = {
  1: "normal",
  2: "unknown",
  3: "control",
  4: "userDefined",
  5: "unused",
  6: "byte",
};
const MODEL_TYPES: Readonly<Record<number, string>> = { 1: "unigram", 2: "bpe", 3: "word", 4: "char" };

/** tokenizer.model, and tokens that were added elsewhere. */
export function readSentencePiece(bytes: Uint8Array, vocabularySize: number, added: AddedToken[]): ReadTokenizer {
  const where = "tokenizer.model";
  const vocabulary = new Vocabulary(vocabularySize);
  let modelType = 1;
  let addsSpace = true;
  let id = 0;
  for (const { field, value } of protobufFields(bytes, where)) {
    if (field === 1) {
      vocabulary.set(id, readPiece(asBytes(value, where), id), where);
      id++;
    } else if (field === 2) {
      for (const inner of protobufFields(asBytes(value, where), where))
        if (inner.field === 3) modelType = Number(inner.value);
    } else if (field === 3) {
      for (const inner of protobufFields(asBytes(value, where), where)) {
        if (inner.field === 2 && asBytes(inner.value, where).length > 0)
          throw unsupported(
            "The tokenizer normalizes text by rules of its own (precompiled_charsmap of tokenizer.model).",
          );
        if (inner.field === 3) addsSpace = Boolean(inner.value);
        if (inner.field === 4 && Boolean(inner.value))
          throw unsupported("The tokenizer removes spaces (remove_extra_whitespaces of tokenizer.model).");
      }
    }
  }
  if (modelType !== 2) {
    const name = MODEL_TYPES[modelType] ?? String(modelType);
    throw unsupported(`The SentencePiece model is of the type ${name}, and must be bpe.`, { tokenizer: name });
  }
  for (const token of added) vocabulary.add(withSpaces(token));
  return finish(vocabulary, addsSpace, where);
}

/** A tokenizer.json that stands for a SentencePiece model: pieces merge in the order of their scores. */
export function readSentencePieceJson(tokenizer: JsonObject, vocabularySize: number): ReadTokenizer {
  const model = checkModel(tokenizer);
  const where = tokenizer.where;
  if (!model.boolean("byte_fallback", false)) {
    throw unsupported(
      "The tokenizer's model has neither bytes nor byte_fallback for characters that it does not know.",
    );
  }
  const vocab = model.object("vocab");
  if (vocab === undefined) throw model.wrong("vocab", "must be an object");
  const unknown = model.string("unk_token");
  const added = readAddedTokens(tokenizer);
  const addedTexts = new Set(added.map(({ text }) => text));
  const merged = vocab.keys().filter((text) => text !== unknown && !BYTE_TOKEN.test(text) && !addedTexts.has(text));
  const scores = scoresOf(readMerges(model), merged, vocab, where);
  const vocabulary = new Vocabulary(vocabularySize);
  for (const text of vocab.keys()) {
    const type = text === unknown ? "unknown" : BYTE_TOKEN.test(text) ? "byte" : "normal";
    vocabulary.set(vocab.number(text), { text, type, score: scores.get(text) ?? -1e6 }, where);
  }
  for (const token of added) vocabulary.add(withSpaces(token));
  return finish(vocabulary, addsSpaceBefore(tokenizer), where);
}

function finish(vocabulary: Vocabulary, addsSpace: boolean, where: string): ReadTokenizer {
  const tokens = vocabulary.finish();
  const bytes = tokens.filter(({ type }) => type === "byte").length;
  if (bytes !== 256)
    throw unsupported(
      `${where} has ${bytes} tokens for bytes, and must have 256: llama.cpp spells unknown characters so.`,
    );
  return {
    tokens,
    metadata: [
      string("tokenizer.ggml.model", "llama"),
      string("tokenizer.ggml.pre", "default"),
      boolean("tokenizer.ggml.add_space_prefix", addsSpace),
    ],
  };
}

/** llama.cpp looks for these in the text itself, before spaces are replaced. */
function withSpaces(token: AddedToken): AddedToken {
  return token.special ? token : { ...token, text: token.text.replaceAll(SPACE, " ") };
}

/**
 * SentencePiece merges the pair whose result has the best score. The merges of tokenizer.json are all pairs of pieces, in
 * the order of their results' scores: that order is a score as good as the original. Where merges are others, it is not
 * the same tokenizer. `texts` are the pieces that merges make.
 */
function scoresOf(
  merges: [string, string][],
  texts: readonly string[],
  vocab: JsonObject,
  where: string,
): Map<string, number> {
  const refuse = (what: string) =>
    unsupported(
      `${where} is not made of a SentencePiece model: ${what}.`,
      { file: where },
      "Put the model's tokenizer.model into the folder, if there is one.",
    );
  const scores = new Map<string, number>();
  const pairs = new Map<string, number>();
  let last: string | undefined;
  for (const [left, right] of merges) {
    const result = left + right;
    for (const part of [left, right, result])
      if (vocab.get(part) === undefined)
        throw invalidCheckpoint(`A merge of ${where} has ${JSON.stringify(part)}, which is no token.`, { file: where });
    if (result !== last) {
      if (scores.has(result)) throw refuse(`merges into ${JSON.stringify(result)} have different ranks`);
      scores.set(result, -scores.size);
    }
    pairs.set(result, (pairs.get(result) ?? 0) + 1);
    last = result;
  }
  for (const text of texts) {
    const characters = Array.from(text);
    // SentencePiece makes none of more than 16, if it is not told to; the loop below is quadratic.
    if (characters.length > 1024) throw refuse(`it has a piece of ${characters.length} characters`);
    let possible = 0;
    for (let i = 1; i < characters.length; i++) {
      const [left, right] = [characters.slice(0, i).join(""), characters.slice(i).join("")];
      if (vocab.get(left) !== undefined && vocab.get(right) !== undefined) possible++;
    }
    const count = pairs.get(text) ?? 0;
    if (possible !== count) throw refuse(`of ${possible} pairs that make ${JSON.stringify(text)}, ${count} are merges`);
  }
  return scores;
}

/** What makes spaces into pieces' own, of the forms that conversions from SentencePiece have. */
function addsSpaceBefore(tokenizer: JsonObject): boolean {
  const normalizer = tokenizer.object("normalizer");
  const steps: Json[] =
    normalizer?.string("type") === "Sequence"
      ? (normalizer.array("normalizers") ?? [])
      : normalizer === undefined
        ? []
        : [tokenizer.get("normalizer") ?? null];
  let [adds, replaces] = [false, false];
  for (const value of steps) {
    const step = new JsonObject(value, `normalizer of ${tokenizer.where}`);
    const type = step.string("type");
    if (type === "Prepend" && step.string("prepend") === SPACE && !replaces) adds = true;
    else if (type === "Replace" && step.object("pattern")?.string("String") === " " && step.string("content") === SPACE)
      replaces = true;
    else throw unsupported(`The tokenizer's normalizer has the step ${JSON.stringify(value)}, which is not known.`);
  }
  const pre = tokenizer.object("pre_tokenizer");
  const type = pre?.string("type");
  if (pre !== undefined && type === "Metaspace" && !replaces && pre.string("replacement") === SPACE) {
    const scheme = pre.string("prepend_scheme") ?? (pre.boolean("add_prefix_space", true) ? "always" : "never");
    if (!pre.boolean("split", true) && ["first", "always", "never"].includes(scheme)) return scheme !== "never";
  }
  // Splits at spaces, of which there are none any more (Gemma).
  const isIdle = type === "Split" && replaces && pre?.object("pattern")?.string("String") === " ";
  if ((pre !== undefined && !isIdle) || !replaces) {
    throw unsupported(
      `The tokenizer's pre-tokenizer is not known: ${JSON.stringify(tokenizer.get("pre_tokenizer") ?? null)}.`,
      {
        preTokenizer: tokenizer.get("pre_tokenizer") ?? null,
      },
    );
  }
  return adds;
}

function readPiece(bytes: Uint8Array, id: number): Token {
  let [text, score, type] = ["", 0, 1];
  for (const { field, value } of protobufFields(bytes, "tokenizer.model")) {
    if (field === 1) text = decodeUtf8(asBytes(value, "tokenizer.model"), `piece ${id} of tokenizer.model`);
    else if (field === 2) {
      const four = asBytes(value, "tokenizer.model");
      score = new DataView(four.buffer, four.byteOffset, 4).getFloat32(0, true);
    } else if (field === 3) type = Number(value);
  }
  const known = PIECE_TYPES[type];
  if (known === undefined)
    throw unsupported(`The piece ${JSON.stringify(text)} of tokenizer.model has the type ${type}.`);
  if (!Number.isFinite(score)) throw invalidCheckpoint(`The piece ${id} of tokenizer.model has the score ${score}.`);
  return { text: known === "userDefined" ? text.replaceAll(SPACE, " ") : text, type: known, score };
}

function asBytes(value: number | Uint8Array, where: string): Uint8Array {
  if (typeof value === "number") throw invalidCheckpoint(`${where} is no SentencePiece model.`, { file: where });
  return value;
}

/** The fields of a message in Protocol Buffers' encoding: whole numbers, or bytes (of 4 or 8 for fixed sizes). */
function* protobufFields(bytes: Uint8Array, where: string): Generator<{ field: number; value: number | Uint8Array }> {
  let position = 0;
  const damaged = () =>
    invalidCheckpoint(`${where} is damaged at byte ${bytes.byteOffset + position}.`, { file: where });
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = bytes[position++];
      if (byte === undefined) break;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw damaged();
  };
  while (position < bytes.length) {
    const tag = varint();
    const [field, wire] = [Math.floor(tag / 8), tag % 8];
    if (wire === 0) {
      yield { field, value: varint() };
      continue;
    }
    const length = wire === 2 ? varint() : wire === 5 ? 4 : wire === 1 ? 8 : Infinity;
    if (length > bytes.length - position) throw damaged();
    yield { field, value: bytes.subarray(position, position + length) };
    position += length;
  }
}
