// What `coldstart bench load` runs in a process of its own: one load, one token. Its options are JSON, and so is what it says.

import { loadModel } from "../load-model.js";
import type { LoadOptions } from "../load-options.js";

export interface LoadOnce {
  /** Until loadModel() is done. */
  loadMs: number;
  /** From the same start until the first token. */
  firstTokenMs: number;
  /** Of the process after the first token, and the most it ever was. */
  rssBytes: number;
  peakRssBytes: number;
  loadMode: "mmap" | "copy" | "direct";
  notes: string[];
}

async function loadOnce({ path, load }: { path: string; load: LoadOptions }): Promise<LoadOnce> {
  const started = performance.now();
  const model = await loadModel(path, load);
  const loadMs = performance.now() - started;
  await model.generate("Once upon a time", { maxTokens: 1, temperature: 0 }).result;
  const result: LoadOnce = {
    loadMs,
    firstTokenMs: performance.now() - started,
    rssBytes: process.memoryUsage().rss,
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
    loadMode: model.placement.loadMode,
    notes: model.placement.notes,
  };
  await model.dispose();
  return result;
}

// An error ends the process, and its message is what `bench load` tells.
void loadOnce(JSON.parse(process.argv[2] ?? "") as Parameters<typeof loadOnce>[0]).then((result) =>
  process.stdout.write(JSON.stringify(result)),
);
