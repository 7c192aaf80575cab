import { InvalidArgumentError, type Command } from "commander";
import { parseNumber } from "../parse.js";
import type { QuantizeFlags } from "../quantize.js";

export function register(program: Command): void {
  program
    .command("quantize")
    .description("Write a model with fewer bits for each weight, or compare what types of quantization cost.")
    .argument("<input>", "a GGUF file with F32, F16, BF16 or Q8_0, of a split model the first; or a folder")
    .argument("[output]", "the file to write, or a folder for it; with --keep-split the beginning of the names")
    .option("-t, --type <type>", "Q4_K_M, Q8_0, IQ4_XS, …")
    .option("-i, --importance-matrix <file>", "which weights matter (GGUF)")
    .option(
      "--tensor-type <pattern=type...>",
      "types of tensors whose names match a regular expression",
      (value: string, all?: QuantizeFlags["tensorType"]) => [...(all ?? []), parseTensorType(value)],
    )
    .option("--output-tensor-type <type>", "of the output matrix")
    .option("--token-embedding-type <type>", "of the token embeddings")
    .option("--leave-output-tensor", "as it is")
    .option("--pure", "the main type for all matrices")
    .option("--allow-requantize", "also what is quantized already")
    .option("--keep-split", "as many files as the input has")
    .option("--dry-run", "only say what would be written")
    .option("--threads <n>", "CPU threads", parseNumber)
    .option("--device <device>", "auto (the default), cpu or cuda")
    .option("--compare <types...>", "write nothing, and say what each of these types saves and costs")
    .option("--text <file>", "with --compare: the text to measure on")
    .option("--chunk-length <n>", "with --compare: tokens of the text that are read at a time", parseNumber)
    .option("--svg <file>", "with --compare: also draw it")
    .option("--json", "what was written, as JSON")
    .option("-q, --quiet", "no progress and no summary")
    .action(async (input: string, output: string | undefined, flags: QuantizeFlags) =>
      (await import("../quantize.js")).quantize(input, output, flags),
    );
}

function parseTensorType(value: string): { pattern: string; type: string } {
  const at = value.lastIndexOf("=");
  if (at <= 0) throw new InvalidArgumentError("It is <pattern>=<type>, as ffn_down=q6_K.");
  return { pattern: value.slice(0, at), type: value.slice(at + 1) };
}
