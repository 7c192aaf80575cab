// llama.cpp's own tools as contenders.

import { median } from "../report/stats.mjs";
import { patchedLlamaBench, tool } from "../setup/upstream.mjs";
import { outputOf } from "./child.mjs";

/**
 * llama-bench: tokens decoded one by one from random input, without sampling. By depth, which is how many tokens the KV
 * cache holds before, milliseconds a token.
 */
export async function llamaBench(
  file,
  { threads, tokens = 128, depths = [0], repeat = 5, binary = tool("llama-bench") },
) {
  const shape = ["-p", "0", "-n", String(tokens), "-d", depths.join(",")];
  const stdout = await outputOf(binary, [
    "-m",
    file,
    ...shape,
    "-r",
    String(repeat),
    "-t",
    String(threads),
    "-o",
    "json",
  ]);
  const entries = JSON.parse(stdout).map(({ n_depth, samples_ts }) => [n_depth, 1000 / median(samples_ts)]);
  return Object.fromEntries(entries);
}

/** llama-bench of one stream, in tokens a second. */
export async function llamaBenchDecode(file, options) {
  const { 0: msPerToken } = await llamaBench(file, options);
  return { decode: 1000 / msPerToken };
}

/** The same tool with coldstart's patches, by name: with it, what is left between it and coldstart is not ggml's work. */
export function patchedTool(measure) {
  const binary = patchedLlamaBench();
  const name = "llama-bench with coldstart's patches";
  if (binary) return { contenders: { [name]: () => measure(binary) }, absent: {} };
  return { contenders: {}, absent: { [name]: "not built, run `npm run build:tools` in the root folder" } };
}

/** llama-batched-bench: streams that decode in step, without sampling. */
export async function llamaBatchedBench(
  file,
  { threads, streams, promptTokens = 16, tokens = 128, repeat, unified = false },
) {
  const shape = ["-npp", String(promptTokens), "-ntg", String(tokens), "-npl", Array(repeat).fill(streams).join(",")];
  const context = ["-c", String(256 * streams), ...(unified ? ["-kvu"] : [])];
  const pinned = ["-t", String(threads), "-tb", String(threads)];
  const stdout = await outputOf(tool("llama-batched-bench"), [
    ...["-m", file, ...shape, ...context, ...pinned],
    ...["--output-format", "jsonl"],
  ]);
  const results = stdout
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line));
  return {
    decode: median(results.map(({ speed_tg }) => speed_tg)),
    wall: median(results.map(({ t }) => (streams * tokens) / t)),
  };
}
