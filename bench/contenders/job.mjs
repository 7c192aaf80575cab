// What all contenders share. A contender is a script that gets one job, does it and reports numbers to its parent.

/** What to do, as the scenario wrote it. */
export const job = JSON.parse(process.argv[2]);

/** The largest amount of memory that this process had, in MiB. */
export const peakMemory = () => process.resourceUsage().maxRSS / 1024;

const orphaned = () => process.exit(1);
process.once("disconnect", orphaned); // Nobody waits for the numbers any more.

/** Sends the numbers and lets the process end. */
export async function report(result) {
  process.off("disconnect", orphaned);
  await new Promise((resolve) => process.send(result, resolve));
  process.disconnect();
}

/** The same sampling for all. */
export const TEMPERATURE = 0.8;
export const TOP_K = 40;
export const TOP_P = 0.9;

/**
 * Token ids of words that all models here have. `number` says which: different numbers, different prompts, nothing in
 * common for a cache to find.
 */
export function words(count, number) {
  let state = (number + 1) * 2654435761;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return 300 + ((state >>> 8) % 300);
  });
}
