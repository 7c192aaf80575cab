// Which tokens begin and end texts, and the chat template.

import { boolean, string, uint32, type Entry } from "../../gguf/encode.js";
import { JsonObject, readOptionalObject, readOptionalText } from "../json.js";
import { invalidCheckpoint } from "../errors.js";

export interface TokenizerFiles {
  tokenizer: JsonObject | undefined;
  /** tokenizer_config.json */
  config: JsonObject | undefined;
  /** config.json */
  model: JsonObject;
  /** generation_config.json */
  generation: JsonObject | undefined;
  /** special_tokens_map.json */
  map: JsonObject | undefined;
}

const KINDS = [
  { name: "bos", key: "bos_token_id" },
  { name: "eos", key: "eos_token_id" },
  { name: "unk", key: "unknown_token_id" },
  { name: "sep", key: "seperator_token_id" }, // as GGUF spells it
  { name: "pad", key: "padding_token_id" },
] as const;

/** @param idOf the id of a token's text */
export function readSpecialTokens(
  files: TokenizerFiles,
  idOf: ReadonlyMap<string, number>,
  isSentencePiece: boolean,
): Entry[] {
  const entries: Entry[] = [];
  const ids = new Map<string, number>();
  for (const { name, key } of KINDS) {
    const id = findToken(files, name, idOf);
    if (id === undefined) continue;
    ids.set(name, id);
    entries.push(uint32(`tokenizer.ggml.${key}`, id));
  }
  // More than one token may end a text; GGUF has names for three.
  const others = endTokens(files).filter((id) => id !== ids.get("eos") && id < idOf.size);
  const [turn, message] = others;
  if (turn !== undefined) entries.push(uint32("tokenizer.ggml.eot_token_id", turn));
  if (message !== undefined) entries.push(uint32("tokenizer.ggml.eom_token_id", message));
  const template = templateTokens(files.tokenizer);
  const adds = (name: "bos" | "eos", fallback: boolean): boolean =>
    ids.has(name) && (files.config?.boolean(`add_${name}_token`, fallback) ?? fallback);
  const [first, last] = template ?? [undefined, undefined];
  // SentencePiece itself adds none; transformers' classes for it begin texts.
  entries.push(
    boolean(
      "tokenizer.ggml.add_bos_token",
      adds("bos", template ? idOf.get(first ?? "") === ids.get("bos") : isSentencePiece),
    ),
    boolean("tokenizer.ggml.add_eos_token", adds("eos", template ? idOf.get(last ?? "") === ids.get("eos") : false)),
  );
  return entries;
}

/** Its id by its text in the tokenizer's files, else by number in the model's. */
function findToken(files: TokenizerFiles, name: string, idOf: ReadonlyMap<string, number>): number | undefined {
  for (const source of [files.config, files.map]) {
    const value = source?.get(`${name}_token`);
    const text = typeof value === "object" && !Array.isArray(value) ? value?.["content"] : value;
    if (typeof text !== "string") continue;
    const id = idOf.get(text);
    if (id === undefined) {
      throw invalidCheckpoint(
        `${name}_token of ${source?.where ?? ""} is ${JSON.stringify(text)}, which is no token.`,
        {
          token: text,
        },
      );
    }
    return id;
  }
  for (const source of [files.generation, files.model]) {
    const value = source?.get(`${name}_token_id`);
    const id = Array.isArray(value) ? value[0] : value;
    if (typeof id === "number" && Number.isInteger(id) && id >= 0 && id < idOf.size) return id;
  }
  return undefined;
}

function endTokens({ generation, model }: TokenizerFiles): number[] {
  const ids = [generation, model].flatMap((source) => [source?.get("eos_token_id") ?? []].flat());
  return [...new Set(ids)].filter((id): id is number => typeof id === "number" && Number.isInteger(id) && id >= 0);
}

/** What tokenizer.json puts before and after one text; undefined when it does not say. */
function templateTokens(
  tokenizer: JsonObject | undefined,
): [first: string | undefined, last: string | undefined] | undefined {
  const processor = tokenizer?.object("post_processor");
  if (processor === undefined) return undefined;
  const steps =
    processor.string("type") === "Sequence"
      ? (processor.array("processors") ?? [])
      : [tokenizer?.get("post_processor")];
  for (const value of steps) {
    const step = new JsonObject(value, `post_processor of ${processor.where}`);
    if (step.string("type") !== "TemplateProcessing") continue;
    const single = step.array("single") ?? [];
    const tokenOf = (item: unknown) => (item as { SpecialToken?: { id?: string } } | undefined)?.SpecialToken?.id;
    const text = single.findIndex((item) => tokenOf(item) === undefined);
    if (text > 1 || single.length - 1 - text > 1)
      throw invalidCheckpoint(`${step.where} puts more than one token before or after a text, which is not known.`);
    return [text === 1 ? tokenOf(single[0]) : undefined, text < single.length - 1 ? tokenOf(single.at(-1)) : undefined];
  }
  return undefined;
}

export async function readChatTemplate(folder: string, config: JsonObject | undefined): Promise<Entry[]> {
  const file = await readOptionalText(folder, "chat_template.jinja");
  const older = await readOptionalObject(folder, "chat_template.json");
  const value = file ?? older?.get("chat_template") ?? config?.get("chat_template");
  if (value === undefined) return [];
  if (typeof value === "string") return [string("tokenizer.chat_template", value)];
  const where = "chat_template of tokenizer_config.json";
  if (!Array.isArray(value)) throw invalidCheckpoint(`${where} is neither a text nor an array.`);
  const named = value.map((item) => new JsonObject(item, where));
  return named.map((item) => {
    const [name, text] = [item.string("name"), item.string("template")];
    if (name === undefined || text === undefined)
      throw invalidCheckpoint(`${where} has an item without name or template.`);
    return string(name === "default" ? "tokenizer.chat_template" : `tokenizer.chat_template.${name}`, text);
  });
}
