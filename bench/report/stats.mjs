// Numbers out of samples. Machines are noisy: medians and ratios are what to quote.

export function median(values) {
  return quantile(values, 0.5);
}

/** The value below which `share` of the values lie, between neighbours in proportion. */
export function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  const place = (sorted.length - 1) * share;
  const [low, high] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
  return low + (high - low) * (place - Math.floor(place));
}

/**
 * Tokens a second of streams that run side by side.
 *
 * `decode`: while all of them are decoding, from the first token of the last to begin to the last token of the first to
 * end; undefined when there is no such time. `wall`: from the start, prompts included, to the last token of all.
 *
 * @param {[number, number][][]} streams of each stream, when tokens arrived (milliseconds) and how many
 * @param {number} started milliseconds
 */
export function throughput(streams, started) {
  const begin = Math.max(...streams.map((arrivals) => arrivals[0][0]));
  const end = Math.min(...streams.map((arrivals) => arrivals.at(-1)[0]));
  const all = streams.flat();
  const count = (arrivals) => arrivals.reduce((sum, [, tokens]) => sum + tokens, 0);
  const between = all.filter(([at]) => at > begin && at <= end);
  return {
    decode: end > begin ? (count(between) * 1000) / (end - begin) : undefined,
    wall: (count(all) * 1000) / (Math.max(...all.map(([at]) => at)) - started),
  };
}

/** The median of each number that the measurements have in common. */
export function medians(measurements) {
  const entries = Object.keys(measurements[0]).map((key) => {
    const values = measurements.map((measurement) => measurement[key]).filter(Number.isFinite);
    return [key, values.length > 0 ? median(values) : undefined];
  });
  return Object.fromEntries(entries);
}
