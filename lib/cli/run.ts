import { readFileSync } from "node:fs";
import { text as readAll } from "node:stream/consumers";
import { ColdstartError } from "../errors.js";
import type { GenerateOptions } from "../generate-options.js";
import type { GenerationResult } from "../generation.js";
import { loadModel } from "../load-model.js";
import type { LoadOptions } from "../load-options.js";
import type { Model } from "../model.js";
import { placementOf, type PlacementFlags } from "./commands/placement.js";
import { EXIT } from "./exit-codes.js";
import { given } from "./given.js";
import { withProgress } from "./progress.js";
import { fetched } from "./pull.js";

export interface RunFlags
  extends
    PlacementFlags,
    Pick<LoadOptions, "onOutOfMemory" | "strict" | "loadMode" | "isolation" | "quantizeCache">,
    Pick<GenerateOptions, "maxTokens" | "temperature" | "topK" | "topP" | "minP" | "seed" | "overflow">,
    Pick<GenerateOptions, "repeatPenalty" | "frequencyPenalty" | "presencePenalty"> {
  prompt?: string;
  stop?: string[];
  grammarFile?: string;
  threads?: number;
  json?: boolean;
  quiet?: boolean;
}

export async function run(path: string, options: RunFlags): Promise<void> {
  const { onOutOfMemory, strict, threads, isolation, loadMode, quantizeCache } = options;
  const { maxTokens, temperature, topK, topP, minP, seed, stop, overflow } = options;
  const { repeatPenalty, frequencyPenalty, presencePenalty } = options;
  const grammar = options.grammarFile === undefined ? undefined : readGrammar(options.grammarFile);
  const prompt = options.prompt ?? (await readAll(process.stdin));
  const file = await fetched(path, options.quiet === true || options.json === true, options.mmproj);
  const started = performance.now();

  // The first Ctrl-C ends the text, and what is there is kept; the second ends the process.
  const interrupt = new AbortController();
  process.once("SIGINT", () => interrupt.abort());

  const model = await loadWithProgress(
    file,
    {
      ...placementOf(options),
      ...given({ onOutOfMemory, strict, threads, isolation, loadMode, quantizeCache, signal: interrupt.signal }),
    },
    options,
  );
  const loadMs = performance.now() - started;
  try {
    const generate = given({
      maxTokens,
      temperature,
      topK,
      topP,
      minP,
      repeatPenalty,
      frequencyPenalty,
      presencePenalty,
      seed,
      stop,
      overflow,
      grammar,
      signal: interrupt.signal,
    });
    const result = await (options.json ? printEvents : printText)(model, prompt, generate);
    if (!options.quiet && !options.json) console.error(statistics(result, loadMs));
    if (result.finishReason === "aborted") process.exitCode = EXIT.interrupted;
  } finally {
    await model.dispose();
  }
}

function readGrammar(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    throw new ColdstartError(
      "INVALID_OPTION",
      `The grammar file ${file} cannot be read: ${(cause as Error).message}.`,
      {
        remedy: "Check its path.",
        details: { path: file },
        cause,
      },
    );
  }
}

async function loadWithProgress(path: string, load: LoadOptions, { quiet, json }: RunFlags): Promise<Model> {
  return withProgress("Loading", quiet === true || json === true, (progress) =>
    loadModel(path, { ...load, ...progress }),
  );
}

/** The prompt and the text that continues it, as it comes. */
async function printText(model: Model, prompt: string, options: GenerateOptions): Promise<GenerationResult> {
  const generation = model.generate(prompt, options);
  process.stdout.write(prompt);
  for await (const { text } of generation) process.stdout.write(text);
  process.stdout.write("\n");
  return generation.result;
}

/** `{"type":"chunk",…}` for each chunk, then `{"type":"result",…}` or `{"type":"error",…}`. */
async function printEvents(model: Model, prompt: string, options: GenerateOptions): Promise<GenerationResult> {
  const print = (event: object) => process.stdout.write(`${JSON.stringify(event)}\n`);
  try {
    const generation = model.generate(prompt, options);
    for await (const chunk of generation) print({ type: "chunk", ...chunk });
    const result = await generation.result;
    print({ type: "result", ...result });
    return result;
  } catch (error) {
    if (error instanceof ColdstartError)
      print({ type: "error", code: error.code, message: error.message, details: error.details });
    throw error;
  }
}

function statistics({ finishReason, usage, timings, seed }: GenerationResult, loadMs: number): string {
  const speed = timings.tokensPerSecond === undefined ? "" : ` (${timings.tokensPerSecond.toFixed(0)} tokens/s)`;
  const first = timings.timeToFirstToken === undefined ? "" : `, first token ${timings.timeToFirstToken.toFixed(1)} ms`;
  return (
    `[${usage.promptTokens} + ${usage.completionTokens} tokens${speed}; loaded in ${loadMs.toFixed(0)} ms${first}; ` +
    `finish: ${finishReason}; seed ${seed}]`
  );
}
