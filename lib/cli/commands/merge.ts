import type { Command } from "commander";
import type { MergeFlags } from "../merge.js";

export function register(program: Command): void {
  program
    .command("merge")
    .description("Make one file of a model that is in several.")
    .argument("<model>", "path of the first file; the others lie beside it")
    .argument("<output>", "the file to write")
    .option("--json", "what was written, as JSON")
    .option("-q, --quiet", "no progress and no summary")
    .action(async (model: string, output: string, flags: MergeFlags) =>
      (await import("../merge.js")).merge(model, output, flags),
    );
}
