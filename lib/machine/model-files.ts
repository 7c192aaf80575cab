// The files of a model, without looking into them.

import fs from "node:fs";
import path from "node:path";
import { ColdstartError } from "../errors.js";

export interface ModelFiles {
  files: string[];
  /** Of all of them. */
  bytes: number;
}

const PART = /-\d{5}-of-(\d{5})\.gguf$/;
const MODEL = /\.(gguf|safetensors)$/;

/**
 * The files of the model at `location`: a GGUF file with the other parts of a split one, or all models of a folder.
 * Throws `MODEL_NOT_FOUND`.
 */
export function findModel(location: string): ModelFiles {
  const isFolder = checkedStat(location).isDirectory();
  const found = isFolder
    ? filesIn(location, (name) => MODEL.test(name))
    : filesIn(path.dirname(location), isPartOf(path.basename(location)));
  if (found.length === 0) throw notFound(`There is no model in ${location}.`, location);
  return { files: found.map(({ file }) => file), bytes: found.reduce((sum, { size }) => sum + size, 0) };
}

/** Large enough that what a disk has cached of it does not count. Bytes. */
const LEAST_TO_MEASURE = 64 * 2 ** 20;

/**
 * What to read of `location` to measure its disk: a file, or the folder itself where no model in it is large enough.
 * Throws `MODEL_NOT_FOUND`.
 */
export function fileToMeasure(location: string): string {
  if (!checkedStat(location).isDirectory()) return location;
  const models = filesIn(location, (name) => MODEL.test(name)).sort((a, b) => b.size - a.size);
  const largest = models[0];
  return largest && largest.size >= LEAST_TO_MEASURE ? largest.file : location;
}

function filesIn(folder: string, isWanted: (name: string) => boolean): { file: string; size: number }[] {
  return fs
    .readdirSync(folder)
    .filter(isWanted)
    .sort()
    .map((name) => path.join(folder, name))
    .map((file) => ({ file, stat: fs.statSync(file, { throwIfNoEntry: false }) })) // A link may lead nowhere.
    .flatMap(({ file, stat }) => (stat?.isFile() ? [{ file, size: stat.size }] : []));
}

/** Whether a file belongs to the same model as `name`: itself, or another part of a split one. */
function isPartOf(name: string): (other: string) => boolean {
  const [ending, count] = PART.exec(name) ?? [];
  if (ending === undefined) return (other) => other === name;
  const stem = name.slice(0, -ending.length);
  return (other) => other.length === name.length && other.startsWith(stem) && PART.exec(other)?.[1] === count;
}

function checkedStat(location: string): fs.Stats {
  const stat = fs.statSync(location, { throwIfNoEntry: false });
  if (!stat) throw notFound(`There is no file at ${location}.`, location);
  return stat;
}

function notFound(message: string, location: string): ColdstartError {
  return new ColdstartError("MODEL_NOT_FOUND", message, {
    remedy: "Give the path of a GGUF file, or of a folder with GGUF or safetensors files.",
    details: { path: location },
  });
}
