import type { Command } from "commander";
import { parseNumber, parseSize } from "../parse.js";
import type { SplitFlags } from "../split.js";

export function register(program: Command): void {
  program
    .command("split")
    .description("Make several files of a model, named <prefix>-00001-of-00003.gguf and so on.")
    .argument("<model>", "path of a GGUF file")
    .argument("<prefix>", "the beginning of the new files' names")
    .option("--max-tensors <n>", "most tensors of a file (default: 128 without --max-size)", parseNumber)
    .option("--max-size <size>", "most bytes of tensors of a file: 2G, 500M", parseSize)
    .option("--metadata-first", "put no tensors into the first file")
    .option("--dry-run", "only say what would be written")
    .option("--json", "what was written, as JSON")
    .option("-q, --quiet", "no progress and no summary")
    .action(async (model: string, prefix: string, flags: SplitFlags) =>
      (await import("../split.js")).split(model, prefix, flags),
    );
}
