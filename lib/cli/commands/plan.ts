import type { Command } from "commander";
import { parseNumber } from "../parse.js";
import type { PlanFlags } from "../plan.js";
import { addPlacement } from "./placement.js";

export function register(program: Command): void {
  const command = program
    .command("plan")
    .description("Say where a model will go and whether it fits, without loading it.")
    .argument("<model>", "a GGUF file, or a folder in Hugging Face's layout");
  addPlacement(command)
    .option("--parallel <n>", "generations at the same time", parseNumber)
    .option("--batch-size <n>", "most tokens of a step", parseNumber)
    .option("--kv-layout <layout>", "of the KV cache: unified, split")
    .option("--headroom <share>", "of the buffers for intermediate results, to keep free", parseNumber)
    .option("--leave-free <share>", "of a GPU's memory, to keep free", parseNumber)
    .option("--json", "as JSON")
    .action(async (model: string, flags: PlanFlags) => (await import("../plan.js")).plan(model, flags));
}
