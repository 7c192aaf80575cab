/** What `coldstart doctor` says of one thing. */
export interface Check {
  name: string;
  /**
   * - `ok`
   * - `warn`: it works, and could be faster or safer
   * - `fail`: something that coldstart needs, or that was asked for, does not work
   * - `skip`: it does not apply to this machine, or could not be looked at
   */
  status: "ok" | "warn" | "fail" | "skip";
  /** What was found, on one line. */
  found: string;
  /** What to do about it; with `warn` and `fail` only. */
  remedy?: string;
}

/** "a, b and c" */
export function list(words: readonly string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}
