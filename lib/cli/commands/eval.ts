import type { Command } from "commander";
import type { EvalFlags } from "../eval.js";
import { parseNumber } from "../parse.js";
import { addPlacement } from "./placement.js";

export function register(program: Command): void {
  const command = program
    .command("eval")
    .description("Measure how good a model is: on a text, on questions, on prompts with answers.")
    .argument("<model>", "a GGUF file, or a folder")
    .option("--text <file>", "perplexity of this text")
    .option("--base <model>", "with --text: also how far the model is from this one")
    .option("--chunk-length <n>", "tokens of the text that are read at a time", parseNumber)
    .option("--choices <file>", 'multiple choice: a line is {"question", "choices", "answer": index}')
    .option("--answers <file>", 'exact match and F1: a line is {"prompt", "answer": text or texts}')
    .option("-n, --max-tokens <n>", "of an answer", parseNumber)
    .option("--stop <text...>", "strings that end an answer; a line feed by default");
  addPlacement(command)
    .option("--threads <n>", "CPU threads", parseNumber)
    .option("--json", "one JSON event a line instead of text")
    .option("-q, --quiet", "no progress")
    .action(async (model: string, flags: EvalFlags) => (await import("../eval.js")).evaluateModel(model, flags));
}
