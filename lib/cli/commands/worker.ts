import type { Command } from "commander";
import { DEFAULT_ENDPOINT } from "../../workers/endpoint.js";
import { parseNumber } from "../parse.js";
import type { WorkerFlags } from "../worker.js";

/** @param version of coldstart, which a worker tells others */
export function register(program: Command, version: string): void {
  program
    .command("worker")
    .description("Serve this machine's devices to models of other machines, over llama.cpp's RPC.")
    .option(
      "-l, --listen <host:port>",
      "an IPv4 address of this machine and a port; the next port is used too, to say what this worker is",
      DEFAULT_ENDPOINT,
    )
    .option("--allow-remote", "listen on an address that other machines can reach; there is no authentication")
    .option("--devices <names...>", "devices to serve (default: the GPUs, or without one the CPU)")
    .option("--threads <n>", "CPU threads", parseNumber)
    .option("--cache <folder>", "where large tensors are kept, so that they are sent once")
    .option("--no-cache", "keep none")
    .addHelpText(
      "after",
      `
The protocol has no authentication and no encryption. Without --allow-remote only this machine can connect; from others,
use a tunnel: ssh -N -L 50052:127.0.0.1:50052 -L 50053:127.0.0.1:50053 user@worker`,
    )
    .action(async (flags: WorkerFlags) => (await import("../worker.js")).worker(flags, version));
}
