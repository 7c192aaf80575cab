// What a build from source needs on the machine, and what to say when it is missing.

import { spawnSync } from "node:child_process";
import process from "node:process";

const REMEDY = {
  compiler:
    "Debian/Ubuntu: sudo apt-get install g++ make; macOS: xcode-select --install; Windows: winget install Microsoft.VisualStudio.2022.BuildTools, with the C++ workload",
  make: "Debian/Ubuntu: sudo apt-get install make; macOS: xcode-select --install; Windows: not needed with Visual Studio",
  cmake: "Debian/Ubuntu: sudo apt-get install cmake; macOS: brew install cmake; Windows: winget install Kitware.CMake",
};

/** True when `command --version` starts. */
function runs(command, args = ["--version"]) {
  const result = spawnSync(command, args, { stdio: "ignore" });
  return result.error === undefined;
}

/**
 * One sentence per missing tool, with the remedy for Debian, macOS and Windows; empty when all is there.
 * @param {{ platform?: NodeJS.Platform, has?: (command: string) => boolean, env?: NodeJS.ProcessEnv }} [machine]
 * @returns {string[]}
 */
export function missingTools({
  platform = process.platform,
  has = (command) => runs(command),
  env = process.env,
} = {}) {
  const missing = [];
  if (!has("cmake"))
    missing.push(
      `coldstart is compiled on this machine and CMake was not found; install it (${REMEDY.cmake}) and run npm install again.`,
    );
  // On Windows CMake finds Visual Studio by itself, wherever it is.
  const compilers = [env.CXX, "c++", "g++", "clang++"].filter((name) => name);
  if (platform !== "win32" && !compilers.some((name) => has(name))) {
    missing.push(
      `coldstart is compiled on this machine and no C++ compiler was found; install one (${REMEDY.compiler}) and run npm install again.`,
    );
  }
  if (platform !== "win32" && !["ninja", "make"].some((name) => has(name))) {
    missing.push(
      `coldstart is compiled on this machine and neither make nor ninja was found; install one (${REMEDY.make}) and run npm install again.`,
    );
  }
  return missing;
}
