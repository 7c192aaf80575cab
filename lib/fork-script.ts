import { fork, type ChildProcess, type ForkOptions } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";

/**
 * Runs a script of this folder in a process of its own.
 *
 * @param name its path from here, without a suffix
 */
export function forkScript(name: string, options: Pick<ForkOptions, "serialization" | "stdio">): ChildProcess {
  // In index.js, which all that it imports is made part of, this is the same folder; so this file must stay in it. The suffix
  // is .js where it is compiled, .ts where a loader runs it.
  const here = fileURLToPath(import.meta.url);
  const suffix = path.extname(here);
  return fork(path.join(path.dirname(here), `${name}${suffix}`), [], {
    ...options,
    // Options such as --inspect are for the application; a loader is needed here too.
    execArgv: suffix === ".ts" ? process.execArgv : [],
    // What ggml prints when it aborts says enough; a debugger that it would start takes seconds.
    env: { ...process.env, GGML_NO_BACKTRACE: process.env["GGML_NO_BACKTRACE"] ?? "1" },
  });
}
