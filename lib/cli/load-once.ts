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

const { path, load } = JSON.parse(process.argv[2] ?? "") as { path: string; load: LoadOptions };
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
process.stdout.write(JSON.stringify(result));
await model.dispose();
