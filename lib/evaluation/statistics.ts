// Estimates and how sure they are. All intervals are of 95 %.

/** What was measured, and where the true value lies in 95 of 100 measurements like this one. */
export interface Estimate {
  value: number;
  low: number;
  high: number;
}

/** Of the normal distribution: 97.5 % lie below. */
const Z = 1.959963984540054;

/** Mean and spread of numbers that come one by one (Welford 1962). */
export class Moments {
  count = 0;
  mean = 0;
  #squares = 0;

  add(value: number): void {
    this.count++;
    const before = value - this.mean;
    this.mean += before / this.count;
    this.#squares += before * (value - this.mean);
  }

  /** Standard deviation of the mean; infinite for fewer than two numbers. */
  get standardError(): number {
    return this.count < 2 ? Infinity : Math.sqrt(this.#squares / (this.count - 1) / this.count);
  }

  /** Of the mean, by the normal approximation; `map` is applied to all three. */
  estimate(map: (x: number) => number = (x) => x): Estimate {
    const { mean, standardError } = this;
    const [a, b] = [map(mean - Z * standardError), map(mean + Z * standardError)];
    return { value: map(mean), low: Math.min(a, b), high: Math.max(a, b) };
  }
}

/** Of a share of yes (Wilson 1927), which holds also for few trials and near 0 and 1. */
export function wilson(yes: number, trials: number): Estimate {
  if (trials === 0) return { value: NaN, low: 0, high: 1 };
  const share = yes / trials;
  const middle = share + (Z * Z) / (2 * trials);
  const half = Z * Math.sqrt((share * (1 - share)) / trials + (Z * Z) / (4 * trials * trials));
  const whole = 1 + (Z * Z) / trials;
  return {
    value: share,
    low: yes === 0 ? 0 : (middle - half) / whole,
    high: yes === trials ? 1 : (middle + half) / whole,
  };
}

/** @param sorted ascending, not empty @param share 0..1; between two numbers, in proportion */
export function quantile(sorted: Float64Array, share: number): number {
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const low = sorted[below] ?? NaN;
  return low + (place - below) * ((sorted[below + 1] ?? low) - low);
}
