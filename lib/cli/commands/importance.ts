import type { Command } from "commander";
import type { ImportanceFlags } from "../importance.js";
import { parseNumber } from "../parse.js";
import { addPlacement } from "./placement.js";

export function register(program: Command): void {
  const command = program
    .command("importance")
    .description("Measure which weights of a model matter while it reads texts, for `quantize --importance-matrix`.")
    .argument("<model>", "a GGUF file or a folder, not quantized as a rule")
    .argument("<output>", "the file to write (GGUF)")
    .requiredOption("--text <files...>", "texts to read")
    .option("--chunk-length <n>", "tokens that are read at a time", parseNumber)
    .option("--output-matrix", "also of the output matrix");
  addPlacement(command)
    .option("--threads <n>", "CPU threads", parseNumber)
    .option("--json", "what was written, as JSON")
    .option("-q, --quiet", "no progress and no summary")
    .action(async (model: string, output: string, flags: ImportanceFlags) =>
      (await import("../importance.js")).importance(model, output, flags),
    );
}
