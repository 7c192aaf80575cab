import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";

/** A folder for each test of the `describe` that this is called in. */
export function temporaryFolder(): { path: (...names: string[]) => string } {
  let folder = "";
  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), "coldstart-"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));
  return { path: (...names) => path.join(folder, ...names) };
}
