import type { Command } from "commander";
import type { ChatFlags } from "../chat.js";
import { parseNumber } from "../parse.js";
import { addPlacement } from "./placement.js";

export function register(program: Command): void {
  const command = program
    .command("chat")
    .description("Talk with a model, by its chat template. /help says what can be said besides.")
    .argument("<model>", "a GGUF file, or a folder in Hugging Face's layout")
    .option("--system <text>", "how the model is to behave")
    .option("--history <file>", "go on from a conversation that /save wrote")
    .option("--chat-template <what>", 'a file with Jinja, or "chatml", instead of the model\'s own')
    .option("--thinking-budget <n>", "most tokens to think before an answer; 0: none", parseNumber)
    .option("-n, --max-tokens <n>", "most tokens of an answer", parseNumber)
    .option("-t, --temperature <x>", "0 always takes the most likely token", parseNumber)
    .option("--top-k <n>", "sample from the n most likely tokens", parseNumber)
    .option("--top-p <x>", "sample from the tokens that make up this probability", parseNumber)
    .option("--min-p <x>", "drop tokens less likely than this share of the best", parseNumber)
    .option("-s, --seed <n>", "repeat a conversation", parseNumber);
  addPlacement(command)
    .option("--threads <n>", "CPU threads", parseNumber)
    .option("-q, --quiet", "no progress")
    .action(async (model: string, flags: ChatFlags) => (await import("../chat.js")).chat(model, flags));
}
