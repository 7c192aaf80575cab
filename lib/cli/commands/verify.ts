import type { Command } from "commander";
import type { VerifyFlags } from "../verify.js";

export function register(program: Command): void {
  program
    .command("verify")
    .description("Read all of a model, say what is wrong with it, and print its checksums.")
    .argument("<model>", "path of a GGUF file; of a split model the first one")
    .option(
      "-m, --manifest <file>",
      "checksums to compare with: what --json printed, or lines as sha256sum writes them",
    )
    .option("--json", "everything, also the checksum of each tensor, as JSON")
    .option("-q, --quiet", "no progress; only what is wrong")
    .action(async (model: string, flags: VerifyFlags) => (await import("../verify.js")).verify(model, flags));
}
