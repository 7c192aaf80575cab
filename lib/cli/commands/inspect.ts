import type { Command } from "commander";
import type { InspectFlags } from "../inspect.js";

export function register(program: Command): void {
  program
    .command("inspect")
    .description("Show what is in a GGUF file, without loading its weights.")
    .argument("<file>", "path or URL of a GGUF file")
    .option("--tensors", "also list all tensors")
    .option("--json", "everything, as JSON")
    .action(async (file: string, flags: InspectFlags) => (await import("../inspect.js")).inspect(file, flags));
}
