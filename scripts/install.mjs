// npm's install step: nothing to do when a prebuilt addon fits this machine, a build from source otherwise.

import { createRequire } from "node:module";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");
if (hasPrebuild()) console.error("coldstart: a prebuilt addon fits this machine.");
else await import("./build.mjs");

function hasPrebuild() {
  const { resolve } = createRequire(import.meta.url)("node-gyp-build");
  try {
    return resolve(root).includes(`${path.sep}prebuilds${path.sep}`);
  } catch {
    return false; // Its way to say that nothing fits.
  }
}
