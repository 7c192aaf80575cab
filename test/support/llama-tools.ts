// llama.cpp's own tools, built from the same pin (npm test builds them first).

import { execFile } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import { root } from "./models.js";

const run = promisify(execFile);

/** What a tool says, on both outputs. */
export async function runTool(name: string, args: string[]): Promise<string> {
  const { stdout, stderr } = await run(path.join(root, "build", "cmake", "bin", name), args, {
    maxBuffer: 2 ** 26,
  });
  return stdout + stderr;
}
