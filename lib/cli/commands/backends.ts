import type { Command } from "commander";

export function register(program: Command): void {
  program
    .command("backends")
    .description("List the backends found, where, and why some were refused.")
    .option("--json", "as JSON")
    .action(async (flags: { json?: boolean }) => (await import("../backends.js")).backends(flags));
}
