// The files of a model, without looking into them.

import fs from "node:fs";
import path from "node:path";
import { ColdstartError } from "../errors.js";

export interface ModelFiles {
  /** The largest first. */
  files: string[];
  /** Bytes of all of them. */
  bytes: number;
}

const PART = /-\d{5}-of-(\d{5})\.gguf$/;
const MODEL = /\.(gguf|safetensors)$/;

/**
 * The files of the model at `location`: a GGUF file with the other parts of a split one, or of a folder all that are models.
 * Throws `MODEL_NOT_FOUND`.
 */
export function findModel(location: string): ModelFiles {
  const isFolder = statOf(location).isDirectory();
  const folder = isFolder ? location : path.dirname(location);
  const isPart = memberOf(path.basename(location));
  const names = isFolder || PART.test(location) ? fs.readdirSync(folder).filter(isFolder ? isModel : isPart) : [];
  const files = (names.length > 0 ? names.map((name) => path.join(folder, name)) : isFolder ? [] : [location])
    .map((file) => ({ file, stat: statOf(file) }))
    .filter(({ stat }) => stat.isFile())
    .sort((a, b) => b.stat.size - a.stat.size);
  if (files.length === 0) {
    throw new ColdstartError("MODEL_NOT_FOUND", `There is no model in ${location}.`, {
      remedy: "Give the path of a GGUF file, or of a folder with GGUF or safetensors files.",
      details: { path: location },
    });
  }
  return { files: files.map(({ file }) => file), bytes: files.reduce((sum, { stat }) => sum + stat.size, 0) };
}

function isModel(name: string): boolean {
  return MODEL.test(name);
}

/** Whether another file is a part of the same split model. */
function memberOf(first: string): (name: string) => boolean {
  const stem = first.replace(PART, "");
  const count = PART.exec(first)?.[1];
  return (name) => name.replace(PART, "") === stem && PART.exec(name)?.[1] === count;
}

function statOf(file: string): fs.Stats {
  try {
    return fs.statSync(file);
  } catch (cause) {
    throw new ColdstartError("MODEL_NOT_FOUND", `There is no file at ${file}.`, {
      remedy: "Check the path.",
      details: { path: file },
      cause,
    });
  }
}
