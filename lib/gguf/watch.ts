// How long work on files is watched and ended.

import { ColdstartError } from "../errors.js";
import type { OptionReader } from "../options.js";

export interface WatchOptions {
  /** Called with 0..1. If it throws, the work ends with that error. */
  onProgress?: (fraction: number) => void;
  /** Ends the work with `ABORTED`. */
  signal?: AbortSignal;
}

export const WATCH_NAMES = ["onProgress", "signal"] as const satisfies readonly (keyof WatchOptions)[];

export interface Watch {
  onProgress: WatchOptions["onProgress"] | undefined;
  signal: AbortSignal | undefined;
  /** Throws `ABORTED`. */
  checkAborted: () => void;
}

/** @param work what is done: "Splitting", … */
export function readWatch(read: OptionReader, work: string): Watch {
  return toWatch(read.callback("onProgress") as WatchOptions["onProgress"], read.signal(), work);
}

/** Of options that have been checked. */
export function toWatch(
  onProgress: WatchOptions["onProgress"] | undefined,
  signal: AbortSignal | undefined,
  work: string,
): Watch {
  return {
    onProgress,
    signal,
    checkAborted: () => {
      if (!signal?.aborted) return;
      throw new ColdstartError("ABORTED", `${work} was aborted.`, {
        remedy: "Nothing was kept; start again when needed.",
        cause: signal.reason,
      });
    },
  };
}
