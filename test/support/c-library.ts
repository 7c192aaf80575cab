// Shared libraries that tests compile for themselves.

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";

/** A C compiler, or `undefined`: then tests that need one are skipped. */
export const compiler: string | undefined = [process.env["CC"], "cc", "gcc", "clang"].find((name) => {
  if (name === undefined || process.platform === "win32") return false;
  try {
    execFileSync(name, ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
});

/** Compiles in a folder of its own, which {@link remove} deletes. */
export class LibraryFolder {
  readonly #folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-library-"));

  /** Compiles `source` with `definitions`, once for each name, and returns the path of the library. */
  compile(source: string, name: string, definitions: readonly string[] = []): string {
    const output = path.join(this.#folder, `${name}.so`);
    if (existsSync(output)) return output;
    const flags = ["-shared", "-fPIC", "-w", ...definitions.map((definition) => `-D${definition}`)];
    execFileSync(compiler!, [...flags, "-o", output, source], { stdio: ["ignore", "inherit", "inherit"] });
    return output;
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true });
  }
}
