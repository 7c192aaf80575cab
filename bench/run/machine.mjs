// What a result was measured on.

import { execFileSync } from "node:child_process";
import os from "node:os";
import { readPin } from "../../scripts/llama-cpp.mjs";
import { root } from "../setup/paths.mjs";
import { peerVersions } from "../setup/peers.mjs";

/** What stays the same from run to run. */
export function describeMachine() {
  return {
    CPU: os.cpus()[0]?.model ?? "unknown",
    cores: os.availableParallelism(),
    memory: `${(os.totalmem() / 2 ** 30).toFixed(1)} GiB`,
    system: `${os.type()} ${os.release()}`,
    "Node.js": process.version,
    "llama.cpp": readPin().release,
    ...peerVersions(),
  };
}

/** What does not. */
export function describeRun({ rounds, quick }) {
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: commit(),
    rounds,
    quick,
    loadBefore: os.loadavg()[0].toFixed(2),
  };
}

function commit() {
  try {
    const git = (...args) => execFileSync("git", ["-C", root, ...args], { encoding: "utf8" }).trim();
    const changed = git(
      "status",
      "--porcelain",
      "--untracked-files=no",
      "--",
      ".",
      ":!bench/results",
      ":!bench/RESULTS.md",
    );
    return git("rev-parse", "--short", "HEAD") + (changed === "" ? "" : " with changes");
  } catch {
    return "unknown";
  }
}
