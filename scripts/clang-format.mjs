// Formats our C++ (--write) or checks that it is formatted (--check), with the clang-format of the npm package.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");
const native = path.join(root, "native");
const files = fs
  .readdirSync(native, { recursive: true })
  .filter((file) => /\.(cc|h|cu|cuh)$/.test(file))
  .map((file) => path.join(native, file));
const mode = process.argv[2] === "--write" ? ["-i"] : ["--dry-run", "--Werror"];
const cli = createRequire(import.meta.url).resolve("clang-format/index.js");
const { status } = spawnSync(process.execPath, [cli, "--style=file", ...mode, ...files], {
  cwd: root,
  stdio: "inherit",
});
process.exitCode = status ?? 1;
