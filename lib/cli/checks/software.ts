// Node.js, the addon, and what it was built with and for.

import type { CpuFacts } from "../../machine/cpu.js";
import { instructionSetsOf } from "../../machine/instruction-sets.js";
import type { Versions } from "../../version.js";
import { list, type Check } from "./check.js";

const REBUILD = "cd node_modules/coldstart && npm run build:native (in a checkout, npm run build:native)";

/** Whether version `a` is at least `b`; parts that are missing are 0. */
function atLeast(a: string, b: string): boolean {
  const [left, right] = [a, b].map((text) => text.split(".").map(Number));
  for (let i = 0; i < 3; i++) {
    const difference = (left?.[i] ?? 0) - (right?.[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return true;
}

export function checkNode(version: string, needed: string): Check {
  const least = needed.replace(/^>=/, "");
  if (atLeast(version, least)) return { name: "Node.js", status: "ok", found: version };
  return {
    name: "Node.js",
    status: "fail",
    found: `${version}, and coldstart needs ${least} or newer`,
    remedy: `Install Node.js ${least} or newer: https://nodejs.org`,
  };
}

/** The addon as it was loaded, or why it was not. */
export type AddonState = { path: string; versions: Versions } | { error: Error & { remedy?: string } };

export function checkAddon(state: AddonState): Check {
  const name = "Native addon";
  if ("error" in state) {
    const { message, remedy = "Install coldstart again." } = state.error;
    return { name, status: "fail", found: message.replace(remedy, "").trim(), remedy };
  }
  const { llamaCpp, buildType, compiler } = state.versions;
  const found = `${state.path}: llama.cpp ${llamaCpp}, ${buildType} build, ${compiler}`;
  if (buildType === "Release") return { name, status: "ok", found };
  return {
    name,
    status: "warn",
    found,
    remedy: `A ${buildType} build computes slowly. Build it for release: ${REBUILD}.`,
  };
}

/** Whether the CPU backend uses what the processor has, and nothing else. */
export function checkInstructions({ architecture, instructionSets, compiledFor }: CpuFacts): Check {
  const name = "CPU instructions";
  const built = compiledFor.length === 0 ? "nothing beyond the basic ones" : list(compiledFor);
  if (instructionSets === undefined) {
    return { name, status: "skip", found: `built for ${built}; what the processor has is not known on this system` };
  }
  const known = instructionSetsOf(architecture);
  const lacking = compiledFor.filter((set) => !instructionSets.includes(set));
  if (lacking.length > 0) {
    return {
      name,
      status: "fail",
      found: `the addon was built for ${list(lacking)}, which this processor lacks: it will crash`,
      remedy: `Build it on this machine: ${REBUILD}.`,
    };
  }
  const unused = known
    .filter((set) => set.matters && set.feature !== undefined)
    .filter((set) => instructionSets.includes(set.name) && !compiledFor.includes(set.name))
    .map((set) => set.name);
  if (unused.length === 0) return { name, status: "ok", found: `built for ${built}` };
  return {
    name,
    status: "warn",
    found: `the processor has ${list(unused)}, and the addon was built without`,
    remedy: `Build it on this machine, with a newer compiler if it was built here already: ${REBUILD}.`,
  };
}

export interface Tool {
  name: string;
  /** `undefined` when it was not found. */
  version: string | undefined;
}

/** @param missing sentences about what is missing, with remedies (scripts/toolchain.mjs) */
export function checkBuildTools(tools: readonly Tool[], missing: readonly string[], isAddonThere: boolean): Check {
  const name = "Build tools";
  const present = tools.filter(({ version }) => version !== undefined);
  const found = present.length === 0 ? "none" : list(present.map((tool) => `${tool.name} ${tool.version}`));
  const cmake = tools.find((tool) => tool.name === "cmake")?.version;
  const remedies = [...missing];
  if (cmake !== undefined && !atLeast(cmake, "3.18")) remedies.push("Building needs CMake 3.18 or newer.");
  if (!present.some((tool) => tool.name === "git")) {
    remedies.push("git was not found, which fetches llama.cpp; install it (Debian/Ubuntu: sudo apt-get install git).");
  }
  if (remedies.length === 0) return { name, status: "ok", found };
  if (isAddonThere) return { name, status: "skip", found: `${found}; needed only to build coldstart again` };
  return { name, status: "fail", found, remedy: remedies.join(" ") };
}
