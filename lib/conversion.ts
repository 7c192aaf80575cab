// Writes the files of a conversion (native/weights/conversion.h).

import { writeAtomically } from "./atomic-file.js";
import type { Watch } from "./gguf/watch.js";
import type { NativeConversion, NativeWritten } from "./native.js";

export interface WriteOptions {
  threads: number;
  device: "auto" | "cpu" | "cuda";
  watch: Watch;
}

/** One path for each of the plan's files, which appear complete or not at all. */
export async function writeConversion(
  conversion: NativeConversion,
  paths: readonly string[],
  { threads, device, watch: { onProgress, signal, checkAborted } }: WriteOptions,
): Promise<NativeWritten> {
  let thrown: { error: unknown } | undefined;
  const report = (fraction: number) => {
    try {
      onProgress?.(fraction);
    } catch (error) {
      thrown ??= { error };
      conversion.cancel();
    }
  };
  const abort = () => conversion.cancel();
  signal?.addEventListener("abort", abort, { once: true });
  try {
    return await writeAtomically(paths, async (partial) => {
      checkAborted();
      const written = await conversion.write(partial, threads, device, report);
      report(1);
      if (thrown) throw thrown.error;
      checkAborted(); // Nothing has its name yet.
      return written;
    });
  } catch (error) {
    if (thrown) throw thrown.error;
    checkAborted();
    throw error;
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}
