// What is wrong with a vocabulary that a reader of the header alone cannot see. Pure.

import type { GgufHeader, MetadataArray } from "../native.js";
import { show } from "../options.js";

const TOKENS = "tokenizer.ggml.tokens";

/**
 * Sentences without their ends.
 * @param metadata with whole arrays
 * @param tensors of all parts
 */
export function vocabularyProblems(
  metadata: GgufHeader["metadata"],
  tensors: readonly Pick<GgufHeader["tensors"][number], "name" | "shape">[],
): string[] {
  const array = (key: string): MetadataArray | undefined => {
    const value = metadata[key];
    return typeof value === "object" ? value : undefined;
  };
  const model = metadata["tokenizer.ggml.model"];
  if (model === undefined || model === "none" || model === "no_vocab") return [];
  const tokens = array(TOKENS);
  if (tokens?.elementType !== "string") return [`there are no ${TOKENS}, an array of strings`];
  const count = tokens.length;
  const problems: string[] = [];

  const seen = new Map<unknown, number>();
  for (const [id, text] of tokens.values.entries()) {
    const first = seen.get(text);
    // llama.cpp gives empty ones a name of their own.
    if (first === undefined || text === "") seen.set(text, id);
    else problems.push(`the tokens ${first} and ${id} are both ${JSON.stringify(text)}`);
    if (problems.length === MOST) break;
  }
  for (const key of ["tokenizer.ggml.scores", "tokenizer.ggml.token_type"]) {
    const length = array(key)?.length;
    if (length !== undefined && length !== count) problems.push(`${key} has ${length} elements for ${count} tokens`);
  }
  for (const [key, id] of Object.entries(metadata)) {
    if (!/^tokenizer\.ggml\.\w+_token_id$/.test(key)) continue;
    if (typeof id !== "number" || id < 0 || id >= count)
      problems.push(`${key} is ${show(id)}, and there are ${count} tokens`);
  }
  if (model === "gpt2" && array("tokenizer.ggml.merges")?.elementType !== "string")
    problems.push("there are no tokenizer.ggml.merges, which a vocabulary over bytes has");
  const architecture = metadata["general.architecture"];
  const size = metadata[`${typeof architecture === "string" ? architecture : ""}.vocab_size`];
  if (size !== undefined && size !== count) problems.push(`vocab_size is ${show(size)}, and there are ${count} tokens`);
  const rows = tensors.find(({ name }) => name === "token_embd.weight")?.shape[1];
  if (rows !== undefined && rows !== count) problems.push(`token_embd.weight has ${rows} rows for ${count} tokens`);
  return problems;
}

/** Tokens that occur twice are told up to so many. */
const MOST = 10;
