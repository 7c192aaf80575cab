// Where a model for other libraries comes from.

import type { Model, ModelPool } from "../index.js";

/** A loaded model, or one of a pool by its name. */
export type ModelOrPool = Model | { pool: ModelPool; name: string };

export function idOf(source: ModelOrPool): string {
  return "pool" in source ? source.name : (source.info.name ?? source.info.architecture);
}

/** The model, and what says that it is not used any more. */
export async function take(
  source: ModelOrPool,
  signal: AbortSignal | undefined,
): Promise<{ model: Model; release: () => void }> {
  if (!("pool" in source)) return { model: source, release: () => undefined };
  const lease = await source.pool.acquire(source.name, signal ? { signal } : {});
  return { model: lease.model, release: () => lease.release() };
}
