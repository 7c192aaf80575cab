// llama.cpp's own tools, built from the same pin (npm test builds them first).

import { execFile } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import { root } from "./models.js";

const run = promisify(execFile);

/**
 * What a tool says, on both outputs. `whole`: what it says last. On a busy machine its log, which has a thread of its own, now and
 * then loses that; then it is run again.
 */
export async function runTool(name: string, args: string[], whole = /(?:)/): Promise<string> {
  let said = "";
  for (let attempt = 0; attempt < 20; attempt++) {
    const { stdout, stderr } = await run(path.join(root, "build", "cmake", "bin", name), args, {
      maxBuffer: 2 ** 26,
    });
    said = stdout + stderr;
    if (whole.test(said)) break;
  }
  return said;
}
