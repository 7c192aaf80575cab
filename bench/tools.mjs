// llama.cpp's own tools from the same pin: npm run build:tools puts them into build/cmake/bin.

import { execFile } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { promisify } from "node:util";

export const root = path.resolve(import.meta.dirname, "..");
export const model = path.join(root, "models", "tiny-stories.gguf");

export function tool(name) {
  const file = path.join(root, "build", "cmake", "bin", name);
  if (!fs.existsSync(file)) throw new Error(`${file} is not built. Run: npm run build:tools`);
  return file;
}

/** Tokens a second of llama-bench's tg128: 128 tokens decoded one by one, without sampling. */
export async function llamaBench({ binary = tool("llama-bench"), threads = 1, file = model, extra = [] } = {}) {
  const args = ["-m", file, "-p", "0", "-n", "128", "-r", "5", "-t", String(threads), "-o", "json", ...extra];
  const { stdout } = await promisify(execFile)(binary, args);
  return JSON.parse(stdout)[0].avg_ts;
}
