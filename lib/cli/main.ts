#!/usr/bin/env node
// The command `coldstart`. One file per command; each is imported only when it runs.

import { Command, CommanderError, Option } from "commander";
import { readFileSync } from "node:fs";
import { ColdstartError } from "../errors.js";
import { DEFAULT_ENDPOINT } from "../workers/endpoint.js";
import { EXIT } from "./exit-codes.js";
import { parseNumber } from "./parse.js";

const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
  version: string;
};

function gpuLayersOption(): Option {
  return new Option("--gpu-layers <n>", 'layers on the GPU, "max" or "auto"').argParser((value) =>
    value === "max" || value === "auto" ? value : parseNumber(value),
  );
}

function contextLengthOption(): Option {
  return new Option("-c, --context-length <n>", 'tokens the context holds, or "auto"').argParser((value) =>
    value === "auto" ? value : parseNumber(value),
  );
}

const program = new Command("coldstart")
  .description("Run large language models, from zero to first token.")
  .version(version)
  .exitOverride()
  .configureHelp({ sortSubcommands: true })
  .addHelpText(
    "after",
    `\nExit codes: ${EXIT.ok} done, ${EXIT.failure} failed, ${EXIT.usage} wrong usage, ${EXIT.interrupted} interrupted.`,
  );

program
  .command("run")
  .description("Continue a prompt with a model and stream the text.")
  .argument("<model>", "path of a GGUF file")
  .option("-p, --prompt <text>", "text to continue; without it, standard input")
  .option("-n, --max-tokens <n>", "most tokens to generate", parseNumber)
  .option("-t, --temperature <x>", "0 always takes the most likely token", parseNumber)
  .option("--top-k <n>", "sample from the n most likely tokens", parseNumber)
  .option("--top-p <x>", "sample from the tokens that make up this probability", parseNumber)
  .option("--min-p <x>", "drop tokens less likely than this share of the best", parseNumber)
  .option("--repeat-penalty <x>", "divide the logits of recent tokens", parseNumber)
  .option("-s, --seed <n>", "repeat a run", parseNumber)
  .option("--stop <text...>", "strings that end the text")
  .option("--grammar-file <path>", "a GBNF grammar that the text must follow")
  .addOption(contextLengthOption())
  .addOption(gpuLayersOption())
  .option("--threads <n>", "CPU threads", parseNumber)
  .addOption(new Option("--load-mode <mode>", "how weights are read").choices(["auto", "mmap", "copy", "direct"]))
  .option("--workers <host:port...>", "machines that run `coldstart worker`, to put layers on")
  .option("--isolation <kind>", '"process" runs the model in a process of its own')
  .option("--json", "one JSON event a line instead of text")
  .option("-q, --quiet", "no progress and no statistics")
  .action(async (...args) =>
    (await import("./run.js")).run(...(args as Parameters<(typeof import("./run.js"))["run"]>)),
  );

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
  .action(async (options) =>
    (await import("./worker.js")).worker(options as import("./worker.js").WorkerCommandOptions, version),
  );

program
  .command("inspect")
  .description("Show what is in a GGUF file, without loading its weights.")
  .argument("<file>", "path of a GGUF file")
  .option("--tensors", "also list the tensors")
  .option("--json", "everything, as JSON")
  .action(async (...args) =>
    (await import("./inspect.js")).inspect(...(args as Parameters<(typeof import("./inspect.js"))["inspect"]>)),
  );

program
  .command("plan")
  .description("Say where a model will go and whether it fits, without loading it.")
  .argument("<model>", "path of a GGUF file")
  .addOption(contextLengthOption())
  .addOption(gpuLayersOption())
  .option("--parallel <n>", "generations at the same time", parseNumber)
  .option("--batch-size <n>", "most tokens of a step", parseNumber)
  .option("--kv-type <type>", "of the KV cache's keys and values: f16, q8_0, …")
  .option("--kv-layout <layout>", "of the KV cache: unified, split")
  .option("--devices <names...>", "GPUs to use")
  .option("--split-mode <mode>", "over several GPUs: layer, tensor, row, none")
  .option("--tensor-split <shares...>", "of the GPUs", (value, shares?: number[]) => [
    ...(shares ?? []),
    parseNumber(value),
  ])
  .option("--cpu-moe-layers <n>", 'layers whose experts stay in host memory, or "all"', (value) =>
    value === "all" ? value : parseNumber(value),
  )
  .option("--workers <host:port...>", "machines that run `coldstart worker`, to put layers on")
  .option("--adapter <paths...>", "LoRA adapters to count")
  .option("--mmproj <path>", "an image or audio projector to count")
  .option("--headroom <share>", "of the buffers for intermediate results, to keep free", parseNumber)
  .option("--leave-free <share>", "of a GPU's memory, to keep free", parseNumber)
  .option("--json", "as JSON")
  .action(async (...args) =>
    (await import("./plan.js")).plan(...(args as Parameters<(typeof import("./plan.js"))["plan"]>)),
  );

program
  .command("backends")
  .description("List the backends found, where, and why some were refused.")
  .option("--json", "as JSON")
  .action(async (...args) =>
    (await import("./backends.js")).backends(...(args as Parameters<(typeof import("./backends.js"))["backends"]>)),
  );

program
  .command("devices")
  .description("List what this machine offers to compute on.")
  .option("--measure", "measure the memory bandwidth of the CPU")
  .option("--disk <path>", "measure how fast the disk of a model or folder is read")
  .option("--json", "everything that is known of this machine, as JSON")
  .action(async (...args) =>
    (await import("./devices.js")).devices(...(args as Parameters<(typeof import("./devices.js"))["devices"]>)),
  );

program
  .command("doctor")
  .description("Check this machine and what is installed on it, and say what could be better.")
  .option(
    "-m, --model <path>",
    "a model, or a folder with one: whether it fits, and how fast its disk is (default: the disk of this folder)",
  )
  .option("--no-measure", "do not measure the bandwidths of memory and disk")
  .option("--json", "everything that was found, as JSON")
  .action(async (...args) =>
    (await import("./doctor.js")).doctor(...(args as Parameters<(typeof import("./doctor.js"))["doctor"]>)),
  );

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
  .action(async (...args) =>
    (await import("./bench-load.js")).benchLoad(
      ...(args as unknown as Parameters<(typeof import("./bench-load.js"))["benchLoad"]>),
    ),
  );

// `coldstart run … | head` closes our output: that is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(EXIT.ok);
  throw error;
});

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
}

/** Says what went wrong and returns the exit code. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage; // It has said it already.
  if (error instanceof ColdstartError) {
    console.error(`coldstart: ${error.message} [${error.code}]`);
    if (error.code === "ABORTED") return EXIT.interrupted;
    return error.code === "INVALID_OPTION" ? EXIT.usage : EXIT.failure;
  }
  console.error(error);
  return EXIT.failure;
}
