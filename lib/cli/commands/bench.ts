import type { Command } from "commander";
import type { BenchLoadFlags } from "../bench-load.js";
import { parseNumber } from "../parse.js";
import { gpuLayersOption } from "./placement.js";

export function register(program: Command): void {
  const bench = program.command("bench").description("Measure this machine with a model.");
  bench
    .command("load")
    .description("Measure how long a model takes to load, from the disk and from memory, in each load mode.")
    .argument("<model>", "path of a GGUF file")
    .option(
      "--modes <list>",
      "load modes, each with +prefetch or +mlock or without",
      "mmap,mmap+prefetch,copy,copy+prefetch,direct",
    )
    .option("-r, --rounds <n>", "how often each is measured", parseNumber, 3)
    .option("-c, --context-length <n>", "tokens the context holds", parseNumber, 512)
    .addOption(gpuLayersOption())
    .option("--threads <n>", "CPU threads", parseNumber)
    .option("--json", "as JSON")
    .action(async (model: string, flags: BenchLoadFlags) => (await import("../bench-load.js")).benchLoad(model, flags));
}
