// The tokenizer of a folder, as GGUF has it.

import { invalidCheckpoint } from "../errors.js";
import type { Entry } from "../../gguf/encode.js";
import { readOptional, readOptionalObject, type JsonObject } from "../json.js";
import { isByteLevel, readByteLevel } from "./byte-level.js";
import { readSentencePiece, readSentencePieceJson } from "./sentencepiece.js";
import { readChatTemplate, readSpecialTokens } from "./special-tokens.js";
import { readAddedTokens, readAddedTokensElsewhere, TOKEN_TYPES } from "./vocabulary.js";

/** @param model config.json */
export async function readTokenizer(folder: string, model: JsonObject, vocabularySize: number): Promise<Entry[]> {
  const tokenizer = await readOptionalObject(folder, "tokenizer.json");
  const config = await readOptionalObject(folder, "tokenizer_config.json");
  const isBytes = tokenizer !== undefined && isByteLevel(tokenizer);
  // The original says more than what was made of it.
  const original = isBytes ? undefined : await readOptional(folder, "tokenizer.model");
  let read;
  if (original !== undefined) {
    const older = await readOptionalObject(folder, "added_tokens.json");
    const added = tokenizer ? readAddedTokens(tokenizer) : readAddedTokensElsewhere(config, older);
    read = readSentencePiece(original, vocabularySize, added);
  } else if (tokenizer !== undefined) {
    read = isBytes ? readByteLevel(tokenizer, vocabularySize) : readSentencePieceJson(tokenizer, vocabularySize);
  } else {
    throw invalidCheckpoint(
      `${folder} has neither tokenizer.json nor tokenizer.model.`,
      { path: folder },
      "Download the tokenizer's files of the model, too.",
    );
  }
  const { tokens, metadata } = read;
  const files = {
    tokenizer,
    config,
    model,
    generation: await readOptionalObject(folder, "generation_config.json"),
    map: await readOptionalObject(folder, "special_tokens_map.json"),
  };
  const idOf = new Map(tokens.map(({ text }, id) => [text, id]));
  return [
    ...metadata,
    { key: "tokenizer.ggml.tokens", type: "array", of: "string", values: tokens.map(({ text }) => text) },
    { key: "tokenizer.ggml.scores", type: "array", of: "float32", values: tokens.map(({ score }) => score) },
    {
      key: "tokenizer.ggml.token_type",
      type: "array",
      of: "int32",
      values: tokens.map(({ type }) => TOKEN_TYPES[type]),
    },
    ...readSpecialTokens(files, idOf, !isBytes),
    ...(await readChatTemplate(folder, config)),
  ];
}
