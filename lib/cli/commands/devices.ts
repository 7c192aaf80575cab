import type { Command } from "commander";
import type { DevicesFlags } from "../devices.js";

export function register(program: Command): void {
  program
    .command("devices")
    .description("List what this machine offers to compute on.")
    .option("--measure", "measure the memory bandwidth of the CPU")
    .option("--disk <path>", "measure how fast the disk of a model or folder is read")
    .option("--json", "everything that is known of this machine, as JSON")
    .action(async (flags: DevicesFlags) => (await import("../devices.js")).devices(flags));
}
