// Counts of values in buckets whose bounds grow by equal factors. Pure.

import type { NativeHistogram } from "../native.js";

/** How values are distributed. */
export interface Distribution {
  count: number;
  sum: number;
  /** Undefined without values, as the following. */
  mean: number | undefined;
  p50: number | undefined;
  p90: number | undefined;
  p99: number | undefined;
  /** Values of more than the bound before and at most this one. The last bound is `Infinity`. */
  buckets: readonly (readonly [bound: number, count: number])[];
}

export function distributionOf({ lowest, perOctave, counts, sum }: NativeHistogram): Distribution {
  const last = counts.length - 1;
  const buckets = Array.from(
    counts,
    (count, i) => [i === last ? Infinity : 2 ** (lowest + i / perOctave), count] as const,
  );
  const count = counts.reduce((total, one) => total + one, 0);
  const quantile = (q: number) => quantileOf(buckets, q);
  const mean = count === 0 ? undefined : sum / count;
  return { count, sum, mean, p50: quantile(0.5), p90: quantile(0.9), p99: quantile(0.99), buckets };
}

/**
 * The value that a share `q` of all values does not exceed, as Prometheus's `histogram_quantile()` finds it: as if those in a bucket
 * were spread evenly. Of the bucket without a bound it is the bound before. Undefined without values.
 */
export function quantileOf(buckets: Distribution["buckets"], q: number): number | undefined {
  const total = buckets.reduce((sum, [, count]) => sum + count, 0);
  if (total === 0) return undefined;
  const rank = q * total;
  let below = 0;
  let from = 0;
  for (const [bound, count] of buckets) {
    if (count > 0 && below + count >= rank)
      return bound === Infinity ? from : from + ((bound - from) * (rank - below)) / count;
    below += count;
    from = bound;
  }
  return undefined; // Not reached: the ranks go up to the total.
}
