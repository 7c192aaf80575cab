/** Runs `body` with a callback for 0..1 that a bar on a terminal shows; with none where nobody would see it. */
export async function withProgress<T>(
  label: string,
  isQuiet: boolean,
  body: (progress: { onProgress?: (fraction: number) => void }) => Promise<T>,
): Promise<T> {
  if (isQuiet || !process.stderr.isTTY) return body({});
  const { default: progress } = await import("cli-progress");
  const bar = new progress.SingleBar({
    format: `${label} [{bar}] {percentage} %`,
    stream: process.stderr,
    clearOnComplete: true,
    hideCursor: true,
  });
  bar.start(1, 0);
  try {
    return await body({ onProgress: (fraction) => bar.update(fraction) });
  } finally {
    bar.stop();
  }
}
