// Which files of a repository make up a model. Pure.

import { ColdstartError } from "../errors.js";
import { chooseProjector } from "../mmproj.js";
import type { HubSpec } from "./spec.js";

export interface RepoFile {
  path: string;
  /** Bytes. */
  size: number;
  /** What the file is called among the blobs of the cache: its SHA-256, or its number in git. */
  blob: string;
  sha256: string | undefined;
}

export interface ChosenFiles {
  /** The first one is what is loaded, a projector the last; of a folder any. */
  files: RepoFile[];
  /** A model in Hugging Face's layout: the folder is what is loaded. */
  isFolder: boolean;
}

/** When nothing is asked for, the first of these that there is. */
const USUAL = ["Q4_K_M", "Q4_K_S", "Q4_0", "MXFP4", "Q5_K_M", "Q6_K", "Q8_0", "F16", "BF16", "F32"];
const PART = /-(\d{5})-of-(\d{5})\.gguf$/i;

/**
 * @param withProjector also the one that belongs to it, if there is one
 *
 * Throws `MODEL_NOT_FOUND`, which lists what there is.
 */
export function chooseFiles(files: readonly RepoFile[], spec: HubSpec, withProjector = false): ChosenFiles {
  const chosen = chooseModel(files, spec);
  const folder = (path: string) => path.slice(0, path.lastIndexOf("/") + 1);
  const [first] = chosen.files;
  if (!withProjector || chosen.isFolder || first === undefined) return chosen;
  // Beside the model, where it is found again.
  const beside = files.filter(({ path }) => folder(path) === folder(first.path));
  const name = chooseProjector(
    beside.map(({ path }) => path),
    first.path,
  );
  const projector = beside.find(({ path }) => path === name);
  return projector ? { ...chosen, files: [...chosen.files, projector] } : chosen;
}

function chooseModel(files: readonly RepoFile[], spec: HubSpec): ChosenFiles {
  const models = groupParts(files.filter(({ path }) => /\.gguf$/i.test(path) && !/mmproj/i.test(path)));
  if (spec.file !== undefined) {
    const named = groupParts(files.filter(({ path }) => /\.gguf$/i.test(path)));
    const group = named.find((parts) => parts.some(({ path }) => path === spec.file));
    if (!group) throw absent(spec, `no file ${spec.file}`, named);
    return { files: group, isFolder: false };
  }
  if (models.length === 0) return chooseFolder(files, spec);
  const wanted = spec.quantization === undefined ? USUAL : [spec.quantization];
  for (const quantization of wanted) {
    const found = models.filter(([first]) => hasWord(first?.path ?? "", quantization));
    if (found.length === 1) return { files: found[0] as RepoFile[], isFolder: false };
    if (found.length > 1 && spec.quantization !== undefined)
      throw absent(spec, `several models of ${quantization}`, found);
  }
  if (spec.quantization === undefined && models.length === 1)
    return { files: models[0] as RepoFile[], isFolder: false };
  throw absent(spec, spec.quantization === undefined ? "several models" : `no model of ${spec.quantization}`, models);
}

function chooseFolder(files: readonly RepoFile[], spec: HubSpec): ChosenFiles {
  const isPart = ({ path }: RepoFile) =>
    !path.includes("/") && /\.(safetensors|json|jinja|model|txt)$/i.test(path) && !/^README/i.test(path);
  const parts = files.filter(isPart);
  const isModel =
    parts.some(({ path }) => path === "config.json") && parts.some(({ path }) => path.endsWith(".safetensors"));
  if (!isModel || spec.quantization !== undefined) throw absent(spec, "no GGUF file", []);
  return { files: parts, isFolder: true };
}

/** The parts of a split model belong together, in their order. */
function groupParts(files: readonly RepoFile[]): RepoFile[][] {
  const groups = new Map<string, RepoFile[]>();
  for (const file of [...files].sort((a, b) => (a.path < b.path ? -1 : 1))) {
    const key = file.path.replace(PART, "-of-$2.gguf");
    const group = groups.get(key) ?? [];
    groups.set(key, [...group, file]);
  }
  return [...groups.values()];
}

/** As a word of the path: Q4_K is none of Q4_K_M. */
function hasWord(path: string, word: string): boolean {
  const escaped = word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`(^|[-./])${escaped}([-./]|$)`, "i").test(path);
}

function absent({ repo, revision }: HubSpec, what: string, models: readonly RepoFile[][]): ColdstartError {
  const names = models.map(([first]) => first?.path ?? "");
  const there = names.length === 0 ? "" : ` There are: ${names.join(", ")}.`;
  return new ColdstartError("MODEL_NOT_FOUND", `${repo} has ${what} at ${revision}.${there}`, {
    remedy: names.length === 0 ? "Check the name." : `Name one: "hf:${repo}/${names[0]}".`,
    details: { repo, revision, files: names },
  });
}
