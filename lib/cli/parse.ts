import { InvalidArgumentError } from "commander";

const SIZES: Readonly<Record<string, number>> = { K: 1e3, M: 1e6, G: 1e9, T: 1e12 };

/** A number of bytes: `2G`, `500M`, `1000`; in powers of 1000, as llama.cpp's tools read it. */
export function parseSize(text: string): number {
  const [, number = "", unit = ""] = /^(\d+(?:\.\d+)?)([KMGT]?)$/i.exec(text) ?? [];
  if (number === "") throw new InvalidArgumentError("It is not a size like 2G or 500M.");
  return Math.floor(Number(number) * (SIZES[unit.toUpperCase()] ?? 1));
}

/** A number on the command line; its range is checked where the library checks options. */
export function parseNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || Number.isNaN(value)) throw new InvalidArgumentError("It is not a number.");
  return value;
}
