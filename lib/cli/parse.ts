import { InvalidArgumentError } from "commander";

/** A number on the command line; its range is checked where the library checks options. */
export function parseNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || Number.isNaN(value)) throw new InvalidArgumentError("It is not a number.");
  return value;
}
