// Notices workers that vanished without closing their connection: no power, no network. llama.cpp would wait for them for
// good.

import { readFacts, type Worker } from "./probe.js";
import { parseEndpoint } from "./endpoint.js";

/** Milliseconds between two looks. */
const INTERVAL = 3000;
/** Looks without an answer, one after the other, until a worker counts as lost. */
const MISSES = 3;

/**
 * Calls `onLost` once, with the endpoints of the workers that do not say any more what they are. Looks only while
 * `isWaiting()`; of llama.cpp's own rpc-server nothing is known, and it is not watched. Returns what ends the watch.
 */
export function watchWorkers(
  workers: Worker[],
  isWaiting: () => boolean,
  onLost: (endpoints: string[]) => void,
): () => void {
  const watched = workers.filter(({ facts }) => facts !== undefined).map(({ endpoint }) => endpoint);
  if (watched.length === 0) return () => undefined;
  let misses = 0;
  const look = async () => {
    if (!isWaiting()) {
      misses = 0;
      return;
    }
    const answers = await Promise.all(
      watched.map((endpoint) => readFacts(parseEndpoint("workers", endpoint), INTERVAL)),
    );
    const lost = watched.filter((_, i) => answers[i] === undefined);
    misses = lost.length === 0 ? 0 : misses + 1;
    if (misses === MISSES) onLost(lost);
  };
  const timer = setInterval(() => void look(), INTERVAL).unref();
  return () => clearInterval(timer);
}
