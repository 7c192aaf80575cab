import type { Command } from "commander";
import { parseNumber } from "../parse.js";
import type { ServeFlags } from "../serve.js";
import { addPlacement } from "./placement.js";

export function register(program: Command): void {
  const command = program
    .command("serve")
    .description("Serve models over HTTP, as OpenAI's API has it, with metrics for Prometheus.")
    .argument(
      "<models...>",
      "a GGUF file, a folder or hf:owner/repo; of several, name=path for each: they share the memory",
    )
    .option("--host <host>", "where to listen; others than this machine's own take --api-key", "127.0.0.1")
    .option("--port <n>", "0: any that is free", parseNumber, 8080)
    .option("--metrics-port <n>", "also tell Prometheus on this port of this machine, without a key", parseNumber)
    .option("--alias <name>", "of one model: its name in requests")
    .option("--api-key <key...>", "requests must have one of these; or COLDSTART_API_KEY")
    .option("--insecure", "answer every machine that reaches it, without a key")
    .option("--cors <origin...>", "pages that may ask from a browser")
    .option("--chat-template <what>", 'a file with Jinja, or "chatml", instead of the model\'s own')
    .option("--parallel <n>", "requests computed at the same time", parseNumber)
    .option("--max-queue <n>", "requests that may wait", parseNumber)
    .option("--timeout <seconds>", "that a request may take", parseNumber);
  addPlacement(command)
    .option("--threads <n>", "CPU threads", parseNumber)
    .option("-q, --quiet", "write nothing but trouble")
    .action(async (models: string[], flags: ServeFlags) => (await import("../serve.js")).serve(models, flags));
}
