// Runs contenders, each in a process of its own, and others beside them.

import { fork, spawn } from "node:child_process";
import path from "node:path";
import { clearTimeout } from "node:timers";
import { bench, root } from "../setup/paths.mjs";

const LIMIT_MS = 10 * 60_000;

/** Runs a script of bench/contenders with a job (see contenders/job.mjs) and resolves to what it reports. */
export async function inChild(script, job, env = {}) {
  const child = fork(path.join(bench, "contenders", script), [JSON.stringify(job)], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
  let result;
  child.on("message", (message) => (result = message));
  await end(child, script);
  if (result === undefined) throw new Error(`${script} reported nothing.`);
  return result;
}

/**
 * Milliseconds from the start of a Node.js process to the first byte that it writes to file descriptor 3. Standard output
 * will not do: some libraries say there what they are loading.
 */
export async function firstText(args) {
  const started = performance.now();
  const child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "pipe", "pipe"] });
  let first;
  child.stdio[3].once("data", () => (first = performance.now() - started)).resume();
  await end(child, path.basename(args[0]));
  if (first === undefined) throw new Error(`${path.basename(args[0])} wrote nothing.`);
  return first;
}

/** The standard output of a tool. */
export async function outputOf(file, args) {
  const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (chunk) => (output += chunk));
  await end(child, path.basename(file));
  return output;
}

/** Measures beside another process that keeps one core busy. */
export async function besideBusyProcess(measure) {
  // Ends with this process, whatever ends this one.
  const busy = spawn(process.execPath, ["-e", "for (const parent = process.ppid; process.ppid === parent; );"]);
  try {
    return await measure();
  } finally {
    busy.kill("SIGKILL");
  }
}

/** Resolves when a process has ended well, and rejects with the last of what it said when it has not. */
function end(child, name) {
  return new Promise((resolve, reject) => {
    let said = "";
    let late = false;
    child.stderr.setEncoding("utf8").on("data", (chunk) => (said = (said + chunk).slice(-4000)));
    const limit = setTimeout(() => (late = child.kill("SIGKILL")), LIMIT_MS);
    child.on("error", reject);
    child.on("close", (code, signal) => {
      clearTimeout(limit);
      if (code === 0) resolve();
      else if (late) reject(new Error(`${name} took more than ${LIMIT_MS / 60_000} minutes.`));
      else reject(new Error(`${name} ended with ${signal ?? `code ${code}`}. ${lastMessage(said)}`));
    });
  });
}

/** The message of an error, without its stack and without where this folder is. */
function lastMessage(said) {
  const lines = said.split("\n").filter((line) => line.trim() !== "" && !/^\s+at |^Node\.js v/.test(line));
  const message = lines.findLast((line) => /Error\b/.test(line)) ?? lines.at(-1) ?? "";
  return message
    .replace(/^\[|\] \{$/g, "") // of an error with properties
    .replaceAll(root + path.sep, "")
    .slice(0, 300);
}
