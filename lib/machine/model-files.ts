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
 * The files of the model at `location`: a GGUF file with the other parts of a split one; of a folder all safetensors files, or
 * the largest GGUF model. Throws `MODEL_NOT_FOUND`.
 */
export function findModel(location: string): ModelFiles {
  const found = checkedStat(location).isDirectory()
    ? modelOfFolder(location)
    : filesIn(path.dirname(location), isPartOf(path.basename(location)));
  if (found.length === 0) throw notFound(`There is no model in ${location}.`, location);
  return { files: found.map(({ file }) => file), bytes: bytesOf(found) };
}

function modelOfFolder(folder: string): FoundFile[] {
  const parts = filesIn(folder, (name) => name.endsWith(".safetensors"));
  if (parts.length > 0) return parts;
  return filesIn(folder, (name) => name.endsWith(".gguf"))
    .map(({ file }) => filesIn(folder, isPartOf(path.basename(file))))
    .reduce((largest, model) => (bytesOf(model) > bytesOf(largest) ? model : largest), []);
}

interface FoundFile {
  file: string;
  /** Bytes. */
  size: number;
}

function bytesOf(files: readonly FoundFile[]): number {
  return files.reduce((sum, { size }) => sum + size, 0);
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

function filesIn(folder: string, isWanted: (name: string) => boolean): FoundFile[] {
  let names: string[];
  try {
    names = fs.readdirSync(folder);
  } catch {
    return []; // It may not be read.
  }
  return names
    .filter(isWanted)
    .sort()
    .map((name) => path.join(folder, name))
    .map((file) => ({ file, stat: statOf(file) }))
    .flatMap(({ file, stat }) => (stat?.isFile() ? [{ file, size: stat.size }] : []));
}

/** Whether a file belongs to the same model as `name`: itself, or another part of a split one. */
function isPartOf(name: string): (other: string) => boolean {
  const [ending, count] = PART.exec(name) ?? [];
  if (ending === undefined) return (other) => other === name;
  const stem = name.slice(0, -ending.length);
  return (other) => other.length === name.length && other.startsWith(stem) && PART.exec(other)?.[1] === count;
}

function statOf(file: string): fs.Stats | undefined {
  try {
    return fs.statSync(file);
  } catch {
    return undefined; // It is not there, is a link that leads nowhere, or lies where one may not look.
  }
}

function checkedStat(location: string): fs.Stats {
  const stat = statOf(location);
  if (!stat) throw notFound(`There is no file at ${location}.`, location);
  return stat;
}

function notFound(message: string, location: string): ColdstartError {
  return new ColdstartError("MODEL_NOT_FOUND", message, {
    remedy: "Give the path of a GGUF file, or of a folder with GGUF or safetensors files.",
    details: { path: location },
  });
}
