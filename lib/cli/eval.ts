import { ColdstartError } from "../errors.js";
import type { AnswersResult } from "../evaluation/answers.js";
import type { ChoicesResult } from "../evaluation/choices.js";
import { evaluate, type EvaluationResults, type EvaluationTask } from "../evaluation/evaluate.js";
import type { PerplexityResult } from "../evaluation/perplexity.js";
import type { Estimate } from "../evaluation/statistics.js";
import { loadModel } from "../load-model.js";
import type { Model } from "../model.js";
import { placementOf, type PlacementFlags } from "./commands/placement.js";
import { formatTable } from "./format.js";
import { given } from "./given.js";
import { interruptible } from "./interruptible.js";
import { withProgress } from "./progress.js";
import { readText } from "./read-text.js";

export interface EvalFlags extends PlacementFlags {
  text?: string;
  base?: string;
  chunkLength?: number;
  choices?: string;
  answers?: string;
  maxTokens?: number;
  stop?: string[];
  threads?: number;
  json?: boolean;
  quiet?: boolean;
}

export async function evaluateModel(file: string, flags: EvalFlags): Promise<void> {
  const tasks = tasksOf(flags);
  if (tasks.length === 0) {
    throw new ColdstartError("INVALID_OPTION", "There is nothing to evaluate on.", {
      remedy: "Give --text, --choices or --answers.",
    });
  }
  await interruptible(async (signal) => {
    const load = { ...placementOf(flags), ...given({ threads: flags.threads }), signal };
    await using model = await loadModel(file, load);
    // As it is: --quantize is for the model that is compared with it.
    const { quantize, ...asItIs } = load;
    await using base = flags.base === undefined ? undefined : await loadModel(flags.base, quantize ? asItIs : load);
    for (const task of tasks)
      await run(model, base && task.type === "perplexity" ? { ...task, base } : task, flags, signal);
  });
}

function tasksOf({ text, base, chunkLength, choices, answers, maxTokens, stop }: EvalFlags): EvaluationTask[] {
  if (base !== undefined && text === undefined) {
    throw new ColdstartError("INVALID_OPTION", "--base is for --text.", { remedy: "Give both, or none." });
  }
  const tasks: EvaluationTask[] = [];
  if (text !== undefined) tasks.push({ type: "perplexity", text: readText(text, "--text"), ...given({ chunkLength }) });
  if (choices !== undefined) tasks.push({ type: "choices", items: choices });
  if (answers !== undefined) tasks.push({ type: "answers", items: answers, generate: given({ maxTokens, stop }) });
  return tasks;
}

async function run(model: Model, task: EvaluationTask, { json, quiet }: EvalFlags, signal: AbortSignal): Promise<void> {
  const print = (event: object) => process.stdout.write(`${JSON.stringify(event)}\n`);
  const onResult = (result: object) => {
    if (json) print({ type: "progress", task: task.type, ...result });
  };
  const result = await withProgress("Evaluating", quiet === true || json === true, (progress) =>
    evaluate(model, task, { ...progress, onResult, signal }),
  );
  if (json) print({ type: "result", task: task.type, ...result });
  else console.log(formatTable(ROWS[task.type](result as never)));
}

const ROWS: { [Type in EvaluationTask["type"]]: (result: EvaluationResults[Type]) => string[][] } = {
  perplexity: perplexityRows,
  choices: choicesRows,
  answers: answersRows,
};

/** @param digits after the point */
function row(name: string, { value, low, high }: Estimate, digits: number, note = ""): string[] {
  return [name, value.toFixed(digits), `${low.toFixed(digits)} to ${high.toFixed(digits)}`, note];
}

function perplexityRows({ perplexity, tokens, chunks, comparison }: PerplexityResult): string[][] {
  const own = row("perplexity", perplexity, 4, `${tokens} tokens of ${chunks} chunks`);
  if (comparison === undefined) return [own];
  const { basePerplexity, perplexityRatio, divergence, topAgreement, probabilityChange } = comparison;
  const quantiles = `median ${divergence.median.toFixed(5)}, 99 % ${divergence.p99.toFixed(5)}, most ${divergence.max.toFixed(5)}`;
  return [
    own,
    row("perplexity of the base", basePerplexity, 4),
    row("ratio of perplexities", perplexityRatio, 4),
    row("divergence from the base", divergence, 5, quantiles),
    row("same likeliest token", topAgreement, 4),
    row("change of probability", probabilityChange.mean, 5, `root mean square ${probabilityChange.rms.toFixed(5)}`),
  ];
}

function choicesRows({ accuracy, accuracyByByte, questions }: ChoicesResult): string[][] {
  return [row("accuracy", accuracy, 4, `${questions} questions`), row("accuracy by byte", accuracyByByte, 4)];
}

function answersRows({ exactMatch, f1, answers }: AnswersResult): string[][] {
  return [row("exact match", exactMatch, 4, `${answers} answers`), row("F1", f1, 4)];
}
