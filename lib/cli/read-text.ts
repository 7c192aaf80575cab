import { readFileSync } from "node:fs";
import { ColdstartError } from "../errors.js";

/**
 * A text file of a command's option, without the line feed at its end: editors put it there, and llama.cpp's tools take it
 * away, too. Throws `INVALID_OPTION`.
 */
export function readText(file: string, option: string): string {
  try {
    return readFileSync(file, "utf8").replace(/\n$/, "");
  } catch (cause) {
    throw new ColdstartError("INVALID_OPTION", `${option} ${file} cannot be read: ${(cause as Error).message}.`, {
      remedy: "Check its path.",
      details: { path: file },
      cause,
    });
  }
}
