import { readFileSync } from "node:fs";
import { editMetadata, metadataTypes } from "../gguf/edit-metadata.js";
import { METADATA_TYPES, parseValue, type MetadataInput, type ValueType } from "../gguf/metadata-values.js";
import { invalidOption } from "../options.js";
import { formatBytes } from "./format.js";
import { given } from "./given.js";
import { interruptible } from "./interruptible.js";
import { withProgress } from "./progress.js";

export interface EditFlags {
  set?: string[];
  add?: string[];
  rename?: string[];
  remove?: string[];
  output?: string;
  force?: boolean;
  json?: boolean;
  quiet?: boolean;
}

export async function edit(model: string, flags: EditFlags): Promise<void> {
  const { remove, output, force, json = false, quiet = false } = flags;
  const renamed = (flags.rename ?? []).map((text) => assignment("--rename", text));
  const earlier = new Map(renamed.map(({ key, text }) => [text, key]));
  const types = await metadataTypes(model);
  // A key that is not there is refused by editMetadata(), whatever its value looks like.
  const set = (flags.set ?? []).map((text) =>
    typedAssignment("--set", text, (key) => types.get(earlier.get(key) ?? key)),
  );
  const add = (flags.add ?? []).map((text) => typedAssignment("--add", text, () => undefined));
  const changes = given({
    rename: Object.fromEntries(renamed.map(({ key, text }) => [key, text])),
    remove,
    set: Object.fromEntries(set),
    add: Object.fromEntries(add),
  });
  const result = await interruptible((signal) =>
    withProgress("Editing", quiet || json, (progress) =>
      editMetadata(model, changes, { ...given({ output, force }), ...progress, signal }),
    ),
  );
  if (json) console.log(JSON.stringify(result, null, 2));
  else if (!quiet)
    console.log(
      `${result.path}: ${result.inPlace ? "changed in place" : "written anew"}, ${formatBytes(result.bytes)}`,
    );
}

function assignment(option: string, given: string): { key: string; text: string } {
  const at = given.indexOf("=");
  if (at < 1) throw invalidOption(option, given, option === "--rename" ? "old=new" : "key=value");
  return { key: given.slice(0, at), text: given.slice(at + 1) };
}

/** `key=value` or `key:type=value`. */
function typedAssignment(
  option: string,
  given: string,
  known: (key: string) => ValueType | undefined,
): [key: string, value: MetadataInput] {
  const { key: left, text } = assignment(option, given);
  const { key, type } = splitType(left);
  return [key, parseValue(`${option} ${key}`, contentOf(option, text), type ?? known(key))];
}

function splitType(text: string): { key: string; type: ValueType | undefined } {
  const [, key = text, name, brackets] = /^(.+):(\w+)(\[\])?$/.exec(text) ?? [];
  const type = METADATA_TYPES.find((known) => known === name);
  return type ? { key, type: { type, isArray: brackets !== undefined } } : { key: text, type: undefined };
}

function contentOf(option: string, text: string): string {
  if (!text.startsWith("@")) return text;
  if (text.startsWith("@@")) return text.slice(1);
  try {
    return readFileSync(text.slice(1), "utf8");
  } catch (error) {
    throw invalidOption(option, text, `@ and the path of a file that can be read (${(error as Error).message})`);
  }
}
