#!/usr/bin/env node
// The command `coldstart`. commands/ declares what each command takes; what it does is in a file beside this one, which is
// imported only when it runs.

import { Command, CommanderError } from "commander";
import { readFileSync } from "node:fs";
import type { ColdstartError } from "../errors.js";
import { EXIT } from "./exit-codes.js";

const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
  version: string;
};

const program = new Command("coldstart")
  .description("Run large language models, from zero to first token.")
  .version(version)
  .exitOverride()
  .configureHelp({ sortSubcommands: true })
  .addHelpText(
    "after",
    `\nExit codes: ${EXIT.ok} done, ${EXIT.failure} failed, ${EXIT.usage} wrong usage, ${EXIT.interrupted} interrupted.`,
  );

// Only what is asked for is imported; without a command, or with one that there is not, all of them are.
const commands = new Map<string, () => Promise<{ register: (program: Command, version: string) => void }>>([
  ["backends", () => import("./commands/backends.js")],
  ["bench", () => import("./commands/bench.js")],
  ["chat", () => import("./commands/chat.js")],
  ["convert", () => import("./commands/convert.js")],
  ["devices", () => import("./commands/devices.js")],
  ["doctor", () => import("./commands/doctor.js")],
  ["edit", () => import("./commands/edit.js")],
  ["eval", () => import("./commands/eval.js")],
  ["importance", () => import("./commands/importance.js")],
  ["inspect", () => import("./commands/inspect.js")],
  ["merge", () => import("./commands/merge.js")],
  ["plan", () => import("./commands/plan.js")],
  ["pull", () => import("./commands/pull.js")],
  ["quantize", () => import("./commands/quantize.js")],
  ["run", () => import("./commands/run.js")],
  ["serve", () => import("./commands/serve.js")],
  ["split", () => import("./commands/split.js")],
  ["verify", () => import("./commands/verify.js")],
  ["worker", () => import("./commands/worker.js")],
]);
const asked = commands.get(process.argv[2] ?? "");
const wanted = asked === undefined ? [...commands.values()] : [asked];
for (const { register } of await Promise.all(wanted.map((declaration) => declaration()))) register(program, version);

// `coldstart run … | head` closes our output: that is no failure. A full disk is one.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(EXIT.ok);
  console.error(`coldstart: Standard output cannot be written: ${error.message}.`);
  process.exit(EXIT.failure);
});

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
}

/** Also of the library as applications have it, which is another file with a class of its own. */
function isOurs(error: unknown): error is ColdstartError {
  return error instanceof Error && error.name === "ColdstartError";
}

/** Says what went wrong and returns the exit code. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage; // It has said it already.
  if (isOurs(error)) {
    console.error(`coldstart: ${error.message} [${error.code}]`);
    if (error.code === "ABORTED") return EXIT.interrupted;
    return error.code === "INVALID_OPTION" ? EXIT.usage : EXIT.failure;
  }
  console.error(error);
  return EXIT.failure;
}
