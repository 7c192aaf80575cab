// How the commands print amounts.

export { formatBytes, formatSpeed } from "../units.js";

/** 8030261248 -> "8.03 B" */
export function formatCount(count: number): string {
  for (const [size, suffix] of [
    [1e9, "B"],
    [1e6, "M"],
    [1e3, "K"],
  ] as const) {
    // prettier-ignore
    if (count >= size) return `${(count / size).toFixed(2)} ${suffix}`;
  }
  return String(count);
}

/** Rows of cells as lines, columns aligned. */
export function formatTable(rows: string[][]): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, cell.length)));
  return rows
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
