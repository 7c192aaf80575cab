import { withResolvers, type Engine } from "./engine.js";
import type { NativeFinished, NativeRequest, NativeScored } from "./native.js";

export interface Prefilled {
  /** Also when it was aborted: `reason` says so. */
  finished: NativeFinished;
  /** With `snapshot`. */
  state: Uint8Array | undefined;
  /** With `score`. */
  scored: NativeScored | undefined;
}

/** Computes a prompt, and nothing after it. */
export async function prefill(
  engine: Engine,
  request: Omit<NativeRequest, "id">,
  signal?: AbortSignal,
): Promise<Prefilled> {
  const settled = withResolvers<NativeFinished>();
  let state: Uint8Array | undefined;
  let scored: NativeScored | undefined;
  const cancel = engine.submit(
    { ...request, maxTokens: 0 },
    {
      snapshot: (bytes) => (state = bytes),
      scored: (scores) => (scored = scores),
      finished: (finished) => settled.resolve(finished),
      failed: (error) => settled.reject(error),
    },
  );
  signal?.addEventListener("abort", cancel, { once: true });
  try {
    return { finished: await settled.promise, state, scored };
  } finally {
    signal?.removeEventListener("abort", cancel);
  }
}
