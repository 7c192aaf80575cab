// The options of `run` and `plan` that say where a model goes: one declaration, one reading.

import { InvalidArgumentError, Option, type Command } from "commander";
import type { AdapterOptions, KvCacheType, LoadOptions, SpeculativeOptions } from "../../load-options.js";
import { given } from "../given.js";
import { parseNumber } from "../parse.js";

export interface PlacementFlags extends Pick<
  LoadOptions,
  "contextLength" | "gpuLayers" | "devices" | "splitMode" | "tensorSplit" | "cpuMoeLayers" | "speculative" | "quantize"
> {
  adapter?: AdapterOptions[];
  kvType?: KvCacheType;
  mmproj?: string;
  workers?: string[];
}

export function gpuLayersOption(): Option {
  return new Option("--gpu-layers <n>", 'layers on the GPU, "max" or "auto"').argParser((value) =>
    value === "max" || value === "auto" ? value : parseNumber(value),
  );
}

export function addPlacement(command: Command): Command {
  return command
    .addOption(
      new Option("-c, --context-length <n>", 'tokens the context holds, or "auto"').argParser((value) =>
        value === "auto" ? value : parseNumber(value),
      ),
    )
    .addOption(gpuLayersOption())
    .option("--devices <names...>", "GPUs to use")
    .addOption(new Option("--split-mode <mode>", "over several GPUs").choices(["layer", "tensor", "row", "none"]))
    .option("--tensor-split <shares...>", "of the GPUs", (value, shares?: number[]) => [
      ...(shares ?? []),
      parseNumber(value),
    ])
    .addOption(
      new Option("--cpu-moe-layers <n>", 'layers whose experts stay in host memory, or "all"').argParser((value) =>
        value === "all" ? value : parseNumber(value),
      ),
    )
    .option("--workers <host:port...>", "machines that run `coldstart worker`, to put layers on")
    .option("--quantize <type>", "quantize the weights while they are loaded: Q4_K_M, …")
    .option(
      "--adapter <path[=scale]...>",
      "LoRA adapters (GGUF), and by how much they count",
      (value: string, all?: AdapterOptions[]) => [...(all ?? []), parseAdapter(value)],
    )
    .option("--mmproj <path>", 'the projector for images or recordings, or "auto": the one beside the model')
    .option("--kv-type <type>", "of the KV cache's keys and values: f16, q8_0, …")
    .addOption(
      new Option("--speculative <kind>", "guess tokens and check them: lookup, mtp, draft:<path of a model>").argParser(
        parseSpeculative,
      ),
    );
}

function parseAdapter(value: string): AdapterOptions {
  const [, path, scale] = /^(.+)=([-+.\d]+)$/.exec(value) ?? [];
  return path === undefined || scale === undefined ? { path: value } : { path, scale: parseNumber(scale) };
}

function parseSpeculative(value: string): SpeculativeOptions {
  if (value === "lookup" || value === "mtp") return { type: value };
  if (value.startsWith("draft:") && value !== "draft:") return { type: "draft", model: value.slice("draft:".length) };
  throw new InvalidArgumentError("It is lookup, mtp, or draft:<path of a model>.");
}

/** What these flags ask of `loadModel()` and `planModel()`. */
export function placementOf(
  flags: PlacementFlags,
  kvLayout?: "unified" | "split",
): Pick<LoadOptions, Exclude<keyof PlacementFlags, "kvType" | "adapter"> | "adapters" | "kvCache"> {
  const {
    contextLength,
    gpuLayers,
    devices,
    splitMode,
    tensorSplit,
    cpuMoeLayers,
    workers,
    kvType,
    speculative,
    quantize,
    adapter: adapters,
    mmproj,
  } = flags;
  return given({
    contextLength,
    gpuLayers,
    devices,
    splitMode,
    tensorSplit,
    cpuMoeLayers,
    workers,
    speculative,
    quantize,
    adapters,
    mmproj,
    kvCache: given({ keyType: kvType, valueType: kvType, layout: kvLayout }),
  });
}
