export const EXIT = {
  ok: 0,
  failure: 1,
  /** An unknown option, a value that makes no sense. */
  usage: 2,
  /** Ctrl-C: 128 + SIGINT, as shells have it. */
  interrupted: 130,
} as const;
