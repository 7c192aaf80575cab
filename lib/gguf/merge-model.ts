import { invalidOption, OptionReader, toPath } from "../options.js";
import { readModelFiles, SPLIT_KEYS } from "./parts.js";
import { checkApart, writeModel, type WrittenFile } from "./output.js";
import { readWatch, WATCH_NAMES, type WatchOptions } from "./watch.js";
import { composeFile, tensorsOf, totalOf } from "./write.js";

export type MergeOptions = WatchOptions;

/**
 * Makes one file of a model that is in several, written by `splitModel()` or `llama-gguf-split`. Tensors are copied as they are,
 * metadata is that of the first file without its `split.*` keys: what `splitModel()` made of a file becomes that file again.
 *
 * The file appears under its name when it is complete, and replaces one of the same name. Memory does not grow with the model.
 *
 * @param model path of the first file, whose name ends in `-00001-of-<count>.gguf`; the others lie beside it
 *
 * Rejects with `MODEL_NOT_FOUND` (also for a part), `INVALID_GGUF` (also when parts do not belong together), `INVALID_OPTION`,
 * `LOAD_FAILED` (a part cannot be read), `WRITE_FAILED`, `ABORTED`, `NATIVE_ADDON_MISSING`.
 */
export async function mergeModel(
  model: string | URL,
  output: string | URL,
  options: MergeOptions = {},
): Promise<WrittenFile> {
  const watch = readWatch(new OptionReader(options, WATCH_NAMES), "Merging");
  const from = toPath(model, "model");
  const to = toPath(output, "output", "a path, or a file: URL");
  watch.checkAborted();

  const sources = await readModelFiles(from);
  const [first] = sources;
  if (!first?.layout.metadata["split.count"])
    throw invalidOption("model", from, "the first file of a model that is in several; this one is whole");
  await checkApart(
    sources.map(({ path }) => path),
    [to],
  );
  const entries = first.layout.entries
    .filter(({ key }) => !SPLIT_KEYS.includes(key))
    .map(({ begin, end }) => [{ path: first.path, begin, end }]);
  const tensors = (await Promise.all(sources.map(tensorsOf))).flat();
  const { header, data } = composeFile(first.layout, entries, tensors);
  const pieces = [...header, ...data];
  await writeModel([{ path: to, pieces }], watch);
  return { path: to, bytes: totalOf(pieces), tensors: tensors.length };
}
