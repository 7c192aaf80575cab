// Medians and tables. Machines are noisy: contenders take turns in one run, and ratios are what to quote.

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * Lets contenders take turns.
 * @param {Record<string, () => Promise<number>>} contenders each measures once
 * @returns {Promise<Record<string, number[]>>}
 */
export async function alternate(contenders, rounds) {
  const samples = Object.fromEntries(Object.keys(contenders).map((name) => [name, []]));
  for (const measure of Object.values(contenders)) await measure(); // warm-up
  for (let round = 0; round < rounds; round++) {
    for (const [name, measure] of Object.entries(contenders)) samples[name].push(await measure());
  }
  return samples;
}

/** A Markdown table of medians, ranges and ratios to the first contender. */
export function report(title, unit, samples) {
  const [reference] = Object.values(samples).map(median);
  const rows = Object.entries(samples).map(([name, values]) => {
    const digits = reference < 100 ? 1 : 0;
    const [low, high] = [Math.min(...values), Math.max(...values)].map((value) => value.toFixed(digits));
    return `| ${name} | ${median(values).toFixed(digits)} | ${low} to ${high} | ${(median(values) / reference).toFixed(2)} |`;
  });
  return [`### ${title}`, "", `| | median ${unit} | range | ratio |`, "|---|---|---|---|", ...rows, ""].join("\n");
}
