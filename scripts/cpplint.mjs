// Lints our C++ with cpplint. Of its npm package only the binary for Linux on x64 is published, so it is no dependency:
// elsewhere, and until it is installed, this says so and changes nothing.

import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import path from "node:path";

const PACKAGE = "@cpplint/cpplint-cpp-linux-x64";

let command;
try {
  ({ command } = createRequire(import.meta.url)(PACKAGE));
} catch {
  console.error(`cpplint is not installed: C++ is not linted. On Linux x64: npm install --no-save ${PACKAGE}@0.1.0`);
  process.exit(0);
}
const { status } = spawnSync(command, ["--quiet", "--recursive", "native"], {
  cwd: path.resolve(import.meta.dirname, ".."),
  stdio: "inherit",
});
process.exitCode = status ?? 1;
