import type { Command } from "commander";
import { parseNumber } from "../parse.js";
import type { PullFlags } from "../pull.js";

export function register(program: Command): void {
  program
    .command("pull")
    .description("Fetch a model from a hub, or what is missing of it, and print where it is.")
    .argument("<model>", "hf:owner/repo, with :Q4_K_M, /file.gguf or @revision after it if wanted")
    .option("--cache <folder>", "where files are kept; by default where Hugging Face's tools have them")
    .option("--endpoint <url>", "another hub; by default HF_ENDPOINT, or Hugging Face")
    .option("--connections <n>", "pieces of a file at the same time", parseNumber)
    .option("--offline", "say where it is, and ask nobody")
    .option("--mmproj", "also the projector for images or recordings, if there is one")
    .option("--json", "path, files, commit and bytes as JSON")
    .option("-q, --quiet", "no progress")
    .action(async (model: string, flags: PullFlags) => (await import("../pull.js")).pull(model, flags));
}
