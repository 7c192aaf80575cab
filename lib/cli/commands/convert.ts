import { Option, type Command } from "commander";
import type { ConvertFlags } from "../convert.js";

export function register(program: Command): void {
  program
    .command("convert")
    .description("Make a GGUF file of a model in Hugging Face's layout, or of a LoRA adapter in PEFT's.")
    .argument("<folder>", "the model's folder, or the adapter's")
    .argument("<output>", "the file to write, or a folder for it")
    .addOption(
      new Option("-t, --type <type>", "of the weights; auto is what they are").choices(["auto", "F32", "F16", "BF16"]),
    )
    .option("--base <model>", "of an adapter: the model that it is for, a GGUF file or a folder")
    .option("--json", "what was written, as JSON")
    .option("-q, --quiet", "no progress and no summary")
    .action(async (folder: string, output: string, flags: ConvertFlags) =>
      (await import("../convert.js")).convert(folder, output, flags),
    );
}
