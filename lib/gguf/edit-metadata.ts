import { open, realpath, stat } from "node:fs/promises";
import { unwritable } from "../atomic-file.js";
import { ColdstartError } from "../errors.js";
import { native, type GgufLayout } from "../native.js";
import { invalidOption, nearestTo, OptionReader, toPath } from "../options.js";
import { DEFAULT_ALIGNMENT, encodeEntry, encodeText, type Entry } from "./encode.js";
import { METADATA_TYPES, nameOf, toEntry, type MetadataInput, type ValueType } from "./metadata-values.js";
import { SPLIT_KEYS, type GgufFile } from "./parts.js";
import { checkApart, writeModel } from "./output.js";
import { readWatch, WATCH_NAMES, type WatchOptions } from "./watch.js";
import { composeFile, readRange, tensorsOf, totalOf, writeAt, type Piece } from "./write.js";

const ALIGNMENT = "general.alignment";
const MAX_KEY = 65_535;
/** A header is put together in memory before it is written over the old one. */
const MAX_IN_PLACE = 2 ** 26;

/** What to change, in this order: keys are renamed, then removed, then set, then added. */
export interface MetadataChanges {
  /** Old keys to new ones. */
  rename?: Readonly<Record<string, string>>;
  /** Keys. */
  remove?: readonly string[];
  /** New values of keys that there are. */
  set?: Readonly<Record<string, MetadataInput>>;
  /** Keys that there are not, with their values. */
  add?: Readonly<Record<string, MetadataInput>>;
}

export interface EditOptions extends WatchOptions {
  /** Write another file and leave this one as it is. Default: this file is changed. */
  output?: string | URL;
  /** Also change what would make the file one that llama.cpp does not load. Default false. */
  force?: boolean;
}

export interface EditResult {
  path: string;
  /** Of the whole file. */
  bytes: number;
  /** Whether the file was changed where it is; else it was written anew. */
  inPlace: boolean;
}

/**
 * Changes the metadata of a GGUF file. Tensors stay as they are.
 *
 * Where the new header takes as much room as the old one (values of the same size, or what the padding before the weights can
 * take), only the bytes that differ are written, in the file itself. Else the file is written anew and replaces the old one
 * when it is complete. The header is checked before. Memory does not grow with the model.
 *
 * `general.alignment` may be changed: the weights are moved. Refused without `force`: changes of `general.architecture` and
 * `split.*`, other types and lengths of the vocabulary's arrays, other types of values, and removing what every model has.
 *
 * @param model path of a GGUF file; of a split model the first file, which has the metadata
 *
 * Rejects with `MODEL_NOT_FOUND`, `INVALID_GGUF`, `INVALID_OPTION` (also for keys that there are not, or should not be),
 * `LOAD_FAILED`, `WRITE_FAILED`, `ABORTED`, `NATIVE_ADDON_MISSING`.
 */
export async function editMetadata(
  model: string | URL,
  changes: MetadataChanges,
  options: EditOptions = {},
): Promise<EditResult> {
  const edits = readChanges(changes);
  const read = new OptionReader(options, ["output", "force", ...WATCH_NAMES] satisfies readonly (keyof EditOptions)[]);
  const force = read.boolean("force", false);
  const watch = readWatch(read, "Editing");
  const to =
    read.raw("output") === undefined ? undefined : toPath(read.raw("output"), "output", "a path, or a file: URL");
  const given = toPath(model, "model");
  watch.checkAborted();

  const file = await readFile(given);
  const { path, layout } = file;
  const entries = apply(edits, file);
  if (!force) refuseHarm(file, entries);
  const alignment = alignmentOf(entries, layout);
  const pieces = entries.map((entry) => entry.pieces);
  const { header, data } = composeFile({ version: layout.version, alignment }, pieces, await tensorsOf(file));

  const isInPlace =
    to === undefined &&
    layout.tensors.length > 0 &&
    alignment === layout.alignment &&
    totalOf(header) === layout.dataOffset &&
    layout.dataOffset <= MAX_IN_PLACE;
  if (isInPlace) {
    const bytes = await assemble(header);
    await checkHeader(bytes, layout.fileSize);
    watch.checkAborted();
    await writeDifference(path, bytes);
    watch.onProgress?.(1);
    return { path: given, bytes: layout.fileSize, inPlace: true };
  }
  if (to !== undefined) await checkApart([path], [to]);
  const all = [...header, ...data];
  await writeModel([{ path: to ?? path, pieces: all }], watch, (await stat(path)).mode);
  return { path: to ?? given, bytes: totalOf(all), inPlace: false };
}

/** The types of a file's metadata, by key. Throws as `editMetadata()` does. */
export async function metadataTypes(model: string): Promise<Map<string, ValueType>> {
  const { layout } = await readFile(model);
  return new Map(layout.entries.map(({ key }) => [key, typeOf(layout, key)]));
}

async function readFile(given: string): Promise<GgufFile> {
  const layout = await native().ggufLayout(given);
  const no = layout.metadata["split.no"];
  if (typeof no === "number" && no > 0)
    throw invalidOption("model", given, `the first file of the split model: of part ${no + 1} no metadata is read`);
  // Through links, so that both ways of writing change the same file.
  return { path: await realpath(given), layout };
}

interface Edits {
  rename: Map<string, string>;
  remove: string[];
  set: Map<string, unknown>;
  add: Map<string, unknown>;
}

function readChanges(changes: unknown): Edits {
  const read = new OptionReader(changes, [
    "rename",
    "remove",
    "set",
    "add",
  ] satisfies readonly (keyof MetadataChanges)[]);
  const byKey = (name: string): Map<string, unknown> => {
    const value = read.raw(name) ?? {};
    if (typeof value !== "object" || Array.isArray(value))
      throw invalidOption(name, value, "an object with keys of the metadata");
    return new Map(Object.entries(value));
  };
  const rename = new Map(
    [...byKey("rename")].map(([from, to]) => {
      if (typeof to !== "string") throw invalidOption(`rename[${JSON.stringify(from)}]`, to, "a key");
      return [from, to];
    }),
  );
  const edits = { rename, remove: read.strings("remove", []), set: byKey("set"), add: byKey("add") };
  if (rename.size + edits.remove.length + edits.set.size + edits.add.size === 0)
    throw invalidOption("changes", changes, "something to rename, remove, set or add");
  return edits;
}

/** An entry of the file to be, and what it was. */
interface EditedEntry {
  key: string;
  /** What was set or added. */
  edited?: Entry;
  type: ValueType;
  /** Elements of an array. */
  length: number | undefined;
  pieces: readonly Piece[];
}

function apply({ rename, remove, set, add }: Edits, { path, layout }: GgufFile): EditedEntry[] {
  const entries = layout.entries.map(({ key, begin, end }): EditedEntry => {
    const value = layout.metadata[key];
    const length = typeof value === "object" ? value.length : undefined;
    return { key, type: typeOf(layout, key), length, pieces: [{ path, begin, end }] };
  });
  const find = (option: string, key: string): EditedEntry => {
    const found = entries.find((entry) => entry.key === key);
    if (found) return found;
    const nearest = nearestTo(
      key,
      entries.map((entry) => entry.key),
    );
    throw new ColdstartError("INVALID_OPTION", `There is no metadata ${key} in ${path}.`, {
      remedy: `${nearest === undefined ? "" : `Did you mean ${nearest}? `}New keys are added with add.`,
      details: { option, key },
    });
  };
  const checkNew = (option: string, key: string) => {
    const bytes = Buffer.byteLength(key);
    if (bytes === 0 || bytes > MAX_KEY || key.includes("\0"))
      throw invalidOption(option, key, `a key of 1 to ${MAX_KEY} bytes without zeros`);
    if (entries.some((entry) => entry.key === key))
      throw invalidOption(option, key, "a key that there is not yet: values are changed with set");
  };
  // All are found before the first gets its new key, so that keys can be exchanged.
  for (const key of [...rename].flat()) if (key === ALIGNMENT) throw invalidOption("rename", key, "another key");
  const renamed = [...rename].map(([from, to]) => ({ entry: find("rename", from), to }));
  for (const { entry, to } of renamed) {
    const { keyEnd = 0, end = 0 } = layout.entries[entries.indexOf(entry)] ?? {};
    entry.pieces = [encodeText(to), { path, begin: keyEnd, end }];
    entry.key = "";
  }
  for (const { entry, to } of renamed) {
    checkNew("rename", to);
    entry.key = to;
  }
  for (const key of remove) entries.splice(entries.indexOf(find("remove", key)), 1);
  for (const [key, value] of set) {
    const entry = find("set", key);
    Object.assign(entry, edited(toEntry(`set[${JSON.stringify(key)}]`, key, value, entry.type)));
  }
  for (const [key, value] of add) {
    checkNew("add", key);
    entries.push(edited(toEntry(`add[${JSON.stringify(key)}]`, key, value)));
  }
  return entries;
}

function edited(entry: Entry): EditedEntry {
  const isArray = entry.type === "array";
  return {
    key: entry.key,
    edited: entry,
    type: { type: isArray ? entry.of : entry.type, isArray },
    length: isArray ? entry.values.length : undefined,
    pieces: [encodeEntry(entry)],
  };
}

function typeOf({ entries, metadata }: GgufLayout, key: string): ValueType {
  const type = entries.find((entry) => entry.key === key)?.type;
  const value = metadata[key];
  const name = typeof value === "object" ? value.elementType : type;
  return { type: METADATA_TYPES.find((known) => known === name) ?? "string", isArray: type === "array" };
}

/** Of the file to be. Throws `INVALID_OPTION` for one that readers do not take. */
function alignmentOf(entries: readonly EditedEntry[], layout: GgufLayout): number {
  const entry = entries.find(({ key }) => key === ALIGNMENT);
  if (!entry) return DEFAULT_ALIGNMENT;
  if (!entry.edited) return layout.alignment;
  const { type, value } = { value: undefined, ...entry.edited };
  const isPower = typeof value === "number" && value >= 32 && value <= 65_536 && Number.isInteger(Math.log2(value));
  if (type !== "uint32" || !isPower) throw invalidOption(ALIGNMENT, value, "a power of two from 32 to 65536 (uint32)");
  return value;
}

/** What llama.cpp asks of nearly every model. */
const REQUIRED = /^(general\.architecture|tokenizer\.ggml\.(model|tokens))$/;
const REQUIRED_OF_ARCHITECTURE =
  /\.(block_count|context_length|embedding_length|feed_forward_length|attention\.head_count)$/;
/** A value for each token. */
const PER_TOKEN = /^tokenizer\.ggml\.(tokens|scores|token_type)$/;

/** Throws `INVALID_OPTION` for changes after which llama.cpp would not load the model. */
function refuseHarm({ layout, path }: GgufFile, entries: readonly EditedEntry[]): void {
  const after = new Map(entries.map((entry) => [entry.key, entry]));
  const refuse = (key: string, what: string) => {
    throw new ColdstartError("INVALID_OPTION", `${key} of ${path} ${what}.`, {
      remedy: "If that is meant, use force.",
      details: { option: "force", key },
    });
  };
  const architecture = layout.metadata["general.architecture"];
  for (const { key } of layout.entries) {
    const entry = after.get(key);
    after.delete(key);
    const isOfArchitecture =
      typeof architecture === "string" && key.startsWith(`${architecture}.`) && REQUIRED_OF_ARCHITECTURE.test(key);
    if (!entry) {
      if (REQUIRED.test(key) || isOfArchitecture) refuse(key, "would be gone, and no model is loaded without it");
      if (SPLIT_KEYS.includes(key)) refuse(key, "would be gone, and without it the other files are not found");
      continue;
    }
    if (!entry.edited) continue;
    if (key === "general.architecture") refuse(key, "would be changed, and all keys and tensors are named after it");
    if (SPLIT_KEYS.includes(key)) refuse(key, "would be changed, and the other files are found by it");
    const [before, type] = [nameOf(typeOf(layout, key)), nameOf(entry.type)];
    if (before !== type) refuse(key, `is ${before} and would be ${type}, which readers may not take`);
    const value = layout.metadata[key];
    if (typeof value === "object" && PER_TOKEN.test(key) && entry.length !== value.length)
      refuse(key, `has ${value.length} elements, one for each token, and would have ${entry.length ?? 0}`);
  }
  for (const key of SPLIT_KEYS) if (after.has(key)) refuse(key, "would make the file one of several");
}

async function assemble(pieces: readonly Piece[]): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for (const piece of pieces) parts.push("path" in piece ? await readRange(piece) : piece);
  return Buffer.concat(parts);
}

/** Throws what a reader would say of a file with this header. */
async function checkHeader(header: Buffer, fileSize: number): Promise<void> {
  await native().inspectGgufPrefix(header, fileSize, 0);
}

/** Of the file's first bytes only those that change. */
async function writeDifference(path: string, bytes: Buffer): Promise<void> {
  const old = await readRange({ path, begin: 0, end: bytes.length });
  const begin = bytes.findIndex((byte, i) => byte !== old[i]);
  if (begin < 0) return;
  const end = bytes.findLastIndex((byte, i) => byte !== old[i]) + 1;
  try {
    const file = await open(path, "r+");
    try {
      await writeAt(file, bytes.subarray(begin, end), begin);
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    throw error instanceof Error && "syscall" in error ? unwritable(path, error) : error;
  }
}
