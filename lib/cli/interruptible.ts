/** Runs `body` with a signal that Ctrl+C aborts. */
export async function interruptible<T>(body: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const abort = new AbortController();
  const interrupt = () => abort.abort();
  process.once("SIGINT", interrupt);
  try {
    return await body(abort.signal);
  } finally {
    process.off("SIGINT", interrupt);
  }
}
