// Tokens by id, with gaps filled: what both kinds of tokenizers come down to.

import { invalidCheckpoint } from "../errors.js";
import type { JsonObject } from "../json.js";

/** GGUF's numbers (llama.h: llama_token_attr's predecessor, LLAMA_TOKEN_TYPE). */
export const TOKEN_TYPES = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;
export type TokenType = keyof typeof TOKEN_TYPES;

export interface Token {
  text: string;
  type: TokenType;
  score: number;
}

export interface AddedToken {
  id: number;
  text: string;
  special: boolean;
}

export class Vocabulary {
  readonly #tokens: (Token | undefined)[];

  constructor(readonly size: number) {
    this.#tokens = new Array<Token | undefined>(size).fill(undefined);
  }

  /** A token of the tokenizer itself. */
  set(id: number, token: Token, where: string): void {
    const { text } = token;
    if (!Number.isInteger(id) || id < 0)
      throw invalidCheckpoint(`The token ${JSON.stringify(text)} of ${where} has the id ${id}.`, { file: where, text });
    if (id >= this.size) {
      throw invalidCheckpoint(
        `The token ${JSON.stringify(text)} of ${where} has the id ${id}, and the model's vocab_size is ${this.size}.`,
        { file: where, text, id },
      );
    }
    const other = this.#tokens[id];
    if (other !== undefined) {
      throw invalidCheckpoint(
        `The tokens ${JSON.stringify(other.text)} and ${JSON.stringify(text)} of ${where} have the id ${id}.`,
        {
          file: where,
          id,
        },
      );
    }
    this.#tokens[id] = token;
  }

  /** Adds to the tokenizer, or replaces what it has there. The model has no weights for ids beyond its vocabulary. */
  add({ id, text, special }: AddedToken): void {
    if (id >= this.size) return;
    const there = this.#tokens[id];
    if (there?.type === "unknown" && there.text === text) return;
    this.#tokens[id] = { text, type: special ? "control" : "userDefined", score: -1000 };
  }

  /** All of them, each with a text of its own. */
  finish(): Token[] {
    const texts = new Map<string, number>();
    this.#tokens.forEach((token, id) => {
      if (token === undefined) return;
      const other = texts.get(token.text);
      if (other !== undefined) {
        throw invalidCheckpoint(`The tokens ${other} and ${id} have the same text, ${JSON.stringify(token.text)}.`, {
          text: token.text,
        });
      }
      texts.set(token.text, id);
    });
    return Array.from(this.#tokens, (token, id) => {
      if (token !== undefined) return token;
      let text = `[PAD${id}]`;
      while (texts.has(text)) text = `[${text}]`;
      return { text, type: "unused", score: -10_000 };
    });
  }
}

/** added_tokens of tokenizer.json. */
export function readAddedTokens(tokenizer: JsonObject): AddedToken[] {
  return (tokenizer.array("added_tokens") ?? []).map((value) => {
    const token = toObject(value, tokenizer, "added_tokens");
    const [id, text] = [token["id"], token["content"]];
    if (!isId(id) || typeof text !== "string")
      throw tokenizer.wrong("added_tokens", "must have an id and a content each");
    return { id, text, special: token["special"] === true };
  });
}

/** added_tokens_decoder of tokenizer_config.json, and added_tokens.json of older folders. */
export function readAddedTokensElsewhere(config: JsonObject | undefined, older: JsonObject | undefined): AddedToken[] {
  const decoder = config?.object("added_tokens_decoder");
  const added = new Map<number, AddedToken>();
  for (const text of older?.keys() ?? []) {
    const id = older?.number(text) ?? -1;
    if (!isId(id)) throw older!.wrong(text, "must be an id"); // eslint-disable-line @typescript-eslint/no-non-null-assertion
    added.set(id, { id, text, special: false });
  }
  for (const key of decoder?.keys() ?? []) {
    const token = decoder?.object(key);
    const text = token?.string("content");
    const id = Number(key);
    if (token === undefined || text === undefined || !isId(id))
      throw decoder!.wrong(key, "must be an id with a content"); // eslint-disable-line @typescript-eslint/no-non-null-assertion
    added.set(id, { id, text, special: token.boolean("special", false) });
  }
  return [...added.values()];
}

function isId(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0;
}

function toObject(value: unknown, where: JsonObject, name: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null) throw where.wrong(name, "must be an array of objects");
  return value as Record<string, unknown>;
}
