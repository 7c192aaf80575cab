import type { Command } from "commander";
import type { DoctorFlags } from "../doctor.js";

export function register(program: Command): void {
  program
    .command("doctor")
    .description("Check this machine and what is installed on it, and say what could be better.")
    .option(
      "-m, --model <path>",
      "a model, or a folder with one: whether it fits, and how fast its disk is (default: the disk of this folder)",
    )
    .option("--no-measure", "do not measure the bandwidths of memory and disk")
    .option("--json", "everything that was found, as JSON")
    .action(async (flags: DoctorFlags) => (await import("../doctor.js")).doctor(flags));
}
