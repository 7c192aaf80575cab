// What coldstart has to reach, as ratios of medians.

/** At least `factor` times what `other` reaches in this metric. */
export function atLeast(factor, other, metric, contender = "coldstart") {
  return {
    text: `${contender} ≥ ${factor} × ${other} (${metric})`,
    value: (medianOf) => medianOf(contender, metric) / medianOf(other, metric),
    met: (ratio) => ratio >= factor,
  };
}

/** At most `factor` times what `other` needs in this metric. */
export function atMost(factor, other, metric, contender = "coldstart") {
  return {
    text: `${contender} ≤ ${factor} × ${other} (${metric})`,
    value: (medianOf) => medianOf(contender, metric) / medianOf(other, metric),
    met: (ratio) => ratio <= factor,
  };
}

/**
 * Whether a target is met, from the samples of a table. `met` is undefined when something it compares was not measured.
 * @param {Record<string, Record<string, number>>} medians by contender and metric
 */
export function judge(target, medians) {
  const value = target.value((contender, metric) => medians[contender]?.[metric] ?? NaN);
  return { text: target.text, value: Number.isFinite(value) ? value : undefined, met: metOrUnknown(target, value) };
}

function metOrUnknown(target, value) {
  return Number.isFinite(value) ? target.met(value) : undefined;
}
