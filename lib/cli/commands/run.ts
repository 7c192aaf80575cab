import { Option, type Command } from "commander";
import { parseNumber } from "../parse.js";
import type { RunFlags } from "../run.js";
import { addPlacement } from "./placement.js";

export function register(program: Command): void {
  const command = program
    .command("run")
    .description("Continue a prompt with a model and stream the text.")
    .argument("<model>", "a GGUF file, or a folder in Hugging Face's layout")
    .option("-p, --prompt <text>", "text to continue; without it, standard input")
    .option("-n, --max-tokens <n>", "most tokens to generate", parseNumber)
    .option("-t, --temperature <x>", "0 always takes the most likely token", parseNumber)
    .option("--top-k <n>", "sample from the n most likely tokens", parseNumber)
    .option("--top-p <x>", "sample from the tokens that make up this probability", parseNumber)
    .option("--min-p <x>", "drop tokens less likely than this share of the best", parseNumber)
    .option("--repeat-penalty <x>", "divide the logits of recent tokens", parseNumber)
    .option("--frequency-penalty <x>", "subtract from logits for each time a token occurred", parseNumber)
    .option("--presence-penalty <x>", "subtract from the logits of tokens that occurred", parseNumber)
    .option("-s, --seed <n>", "repeat a run", parseNumber)
    .option("--stop <text...>", "strings that end the text")
    .option("--grammar-file <path>", "a GBNF grammar that the text must follow")
    .addOption(
      new Option("--overflow <what>", "when the text outgrows the context").choices([
        "error",
        "stop",
        "shift",
        "truncateMiddle",
      ]),
    );
  addPlacement(command)
    .addOption(new Option("--on-out-of-memory <what>", "when memory is refused").choices(["throw", "retry"]))
    .option("--strict", "fail instead of falling back, to the CPU for example")
    .option("--threads <n>", "CPU threads", parseNumber)
    .addOption(new Option("--load-mode <mode>", "how weights are read").choices(["auto", "mmap", "copy", "direct"]))
    .option("--quantize-cache", "keep what --quantize made, for the next time")
    .option("--isolation <kind>", '"process" runs the model in a process of its own')
    .option("--json", "one JSON event a line instead of text")
    .option("-q, --quiet", "no progress and no statistics")
    .action(async (model: string, flags: RunFlags) => (await import("../run.js")).run(model, flags));
}
