import { invalidOption, OptionReader, toPath } from "../options.js";
import { DEFAULT_ALIGNMENT, encodeEntry, int32, paddingAfter, uint16, uint32 } from "./encode.js";
import { readModelFiles, SPLIT_KEYS, type GgufFile } from "./parts.js";
import { checkApart, partPaths, writeModel, type WrittenFile } from "./output.js";
import { readWatch, WATCH_NAMES, type WatchOptions } from "./watch.js";
import { composeFile, lengthOf, tensorsOf, totalOf, type CopiedTensor, type Piece } from "./write.js";

export interface SplitOptions extends WatchOptions {
  /** Most tensors of a file. Default 128 without `maxBytes`, else no limit. */
  maxTensors?: number;
  /**
   * Most bytes of tensors, with their padding, of a file; its header is not counted, and a tensor that is larger has a file of
   * its own. Default no limit.
   */
  maxBytes?: number;
  /** The first file has the metadata alone, and can be read without any tensor. Default false. */
  metadataFirst?: boolean;
  /** Only say what would be written. Default false. */
  dryRun?: boolean;
}

/** split.no and split.count are 16-bit numbers. */
const MAX_PARTS = 65_535;
const DEFAULT_MAX_TENSORS = 128;

/**
 * Makes several files of a model, as `llama-gguf-split` of the same llama.cpp does: the same names, keys and bytes. Tensors stay
 * in their order and are copied as they are.
 *
 * The files appear under their names when all are complete, and replace those of the same names. Memory does not grow with the
 * model.
 *
 * @param model path of a GGUF file; of a model that is split already, its first file
 * @param prefix the beginning of the names, which `-00001-of-00003.gguf` follows
 *
 * Rejects with `MODEL_NOT_FOUND`, `INVALID_GGUF`, `INVALID_OPTION`, `LOAD_FAILED` (the model cannot be read), `WRITE_FAILED`,
 * `ABORTED`, `NATIVE_ADDON_MISSING`.
 */
export async function splitModel(
  model: string | URL,
  prefix: string | URL,
  options: SplitOptions = {},
): Promise<{ files: WrittenFile[] }> {
  const read = new OptionReader(options, [
    "maxTensors",
    "maxBytes",
    "metadataFirst",
    "dryRun",
    ...WATCH_NAMES,
  ] satisfies readonly (keyof SplitOptions)[]);
  const maxBytes = read.integer("maxBytes", 1, Number.MAX_SAFE_INTEGER, Infinity);
  const maxTensors = read.integer("maxTensors", 1, 2 ** 31 - 1, maxBytes === Infinity ? DEFAULT_MAX_TENSORS : Infinity);
  const metadataFirst = read.boolean("metadataFirst", false);
  const dryRun = read.boolean("dryRun", false);
  const watch = readWatch(read, "Splitting");
  const from = toPath(model, "model");
  const to = toPath(prefix, "prefix", "the beginning of a path, or a file: URL");
  watch.checkAborted();

  const sources = await readModelFiles(from);
  const alignment = sources[0]?.layout.alignment ?? DEFAULT_ALIGNMENT;
  const groups = divide((await Promise.all(sources.map(tensorsOf))).flat(), { maxBytes, maxTensors, alignment });
  if (metadataFirst) groups.unshift([]);
  if (groups.length > MAX_PARTS) {
    const option = read.raw("maxBytes") === undefined ? "maxTensors" : "maxBytes";
    throw invalidOption(
      option,
      read.raw(option),
      `so many that there are at most ${MAX_PARTS} files, not ${groups.length}`,
    );
  }
  const paths = partPaths(to, groups.length);
  const parts = compose(sources, groups, alignment);
  const files = parts.map((pieces, i) => ({
    path: paths[i] ?? "",
    bytes: totalOf(pieces),
    tensors: groups[i]?.length ?? 0,
  }));
  if (dryRun) return { files };
  await checkApart(
    sources.map(({ path }) => path),
    paths,
  );
  await writeModel(
    files.map(({ path }, i) => ({ path, pieces: parts[i] ?? [] })),
    watch,
  );
  return { files };
}

/** At least one group, none of them empty unless there are no tensors. */
function divide(
  tensors: readonly CopiedTensor[],
  { maxBytes, maxTensors, alignment }: { maxBytes: number; maxTensors: number; alignment: number },
): CopiedTensor[][] {
  let group: CopiedTensor[] = [];
  const groups = [group];
  let bytes = 0;
  for (const tensor of tensors) {
    const length = lengthOf(tensor.data) + paddingAfter(lengthOf(tensor.data), alignment);
    if (group.length > 0 && (group.length >= maxTensors || bytes + length > maxBytes)) {
      groups.push((group = []));
      bytes = 0;
    }
    group.push(tensor);
    bytes += length;
  }
  return groups;
}

/** The pieces of each part. The metadata is in the first one. */
function compose(sources: readonly GgufFile[], groups: readonly CopiedTensor[][], alignment: number): Piece[][] {
  const [first] = sources;
  if (!first) return [];
  const { version, entries } = first.layout;
  const kept = entries
    .filter(({ key }) => !SPLIT_KEYS.includes(key))
    .map(({ begin, end }) => [{ path: first.path, begin, end }]);
  const tensorCount = groups.reduce((sum, group) => sum + group.length, 0);
  return groups.map((tensors, no) => {
    // In llama-gguf-split's order.
    const split = [
      uint16("split.no", no),
      int32("split.tensors.count", tensorCount),
      uint16("split.count", groups.length),
    ].map((entry) => [encodeEntry(entry)]);
    // Every file is padded as its own header says.
    const own = alignment === DEFAULT_ALIGNMENT ? [] : [[encodeEntry(uint32("general.alignment", alignment))]];
    const { header, data } = composeFile({ version, alignment }, [...(no === 0 ? kept : own), ...split], tensors);
    return [...header, ...data];
  });
}
