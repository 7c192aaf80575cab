// The libraries that coldstart is compared with.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { bench } from "./paths.mjs";

const wanted = JSON.parse(fs.readFileSync(path.join(bench, "package.json"), "utf8")).optionalDependencies;

/** Installs those that are not there. One that cannot be installed is optional and only warned of. */
export function installPeers() {
  if (Object.keys(wanted).every((name) => absence(name) === undefined)) return;
  const args = ["install", "--omit-lockfile-registry-resolved", "--no-audit", "--no-fund"];
  try {
    execFileSync("npm", args, {
      cwd: bench,
      stdio: ["ignore", process.stderr, "inherit"],
      shell: os.platform() === "win32",
    });
  } catch (error) {
    console.error(`npm install failed: ${error.message}`);
  }
}

/** Why a peer cannot take part, or undefined when it can. */
export function absence(name) {
  const version = installedVersion(name);
  if (version === undefined) return "not installed";
  return version === wanted[name] ? undefined : `version ${version} is installed, not ${wanted[name]}`;
}

/** For the description of a run. */
export function peerVersions() {
  return Object.fromEntries(Object.keys(wanted).map((name) => [name, installedVersion(name) ?? "not installed"]));
}

/**
 * Contenders that are peers, by package name; those that cannot take part are in `absent`.
 * @param {Record<string, () => Promise<Record<string, number>>>} contenders
 */
export function peers(contenders) {
  const present = Object.entries(contenders).filter(([name]) => absence(name) === undefined);
  const absent = Object.keys(contenders).filter((name) => absence(name) !== undefined);
  return {
    contenders: Object.fromEntries(present),
    absent: Object.fromEntries(absent.map((name) => [name, absence(name)])),
  };
}

function installedVersion(name) {
  const file = path.join(bench, "node_modules", name, "package.json");
  return fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, "utf8")).version : undefined;
}
