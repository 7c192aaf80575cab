/** JSON for people and programs; it has no Infinity, which is a limit that is none. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) => (part === Infinity ? "unlimited" : part), 2);
}
