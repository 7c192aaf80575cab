import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Backend } from "../../lib/index.js";
import { root } from "./models.js";

const run = promisify(execFile);

/** Runs an ES module in a process of its own, which is where backends are looked for anew, and returns what it prints. */
export async function inProcess(source: string, environment: Record<string, string> = {}): Promise<string> {
  const { stdout } = await run(process.execPath, ["--import", "tsx", "--input-type=module", "-e", source], {
    cwd: root,
    env: { ...process.env, ...environment },
    maxBuffer: 2 ** 26,
  });
  return stdout;
}

/** The backends that such a process finds. */
export async function backendsWith(environment: Record<string, string>): Promise<Backend[]> {
  const source = `import { listBackends } from "./lib/index.ts"; console.log(JSON.stringify(await listBackends()));`;
  return JSON.parse(await inProcess(source, environment)) as Backend[];
}
