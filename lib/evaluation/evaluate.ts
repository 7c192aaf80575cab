import { readWatch, WATCH_NAMES, type Watch, type WatchOptions } from "../gguf/watch.js";
import { Model } from "../model.js";
import { invalidOption, OptionReader } from "../options.js";
import { checkAnswers, evaluateAnswers, type AnswersResult, type AnswersTask } from "./answers.js";
import { checkChoices, evaluateChoices, type ChoicesResult, type ChoicesTask } from "./choices.js";
import { checkPerplexity, evaluatePerplexity, type PerplexityResult, type PerplexityTask } from "./perplexity.js";

/** What a model is asked: `type` says which. */
export type EvaluationTask = PerplexityTask | ChoicesTask | AnswersTask;

/** What is found out by each task. */
export interface EvaluationResults {
  perplexity: PerplexityResult;
  choices: ChoicesResult;
  answers: AnswersResult;
}

export interface EvaluateOptions<Type extends EvaluationTask["type"]> extends WatchOptions {
  /** Called with what is known so far, after each chunk of text or item. If it throws, evaluating ends with that error. */
  onResult?: (result: EvaluationResults[Type]) => void;
}

/** What an evaluation runs with. */
export interface Evaluation<Result> extends Watch {
  model: Model;
  onResult: ((result: Result) => void) | undefined;
}

/**
 * Measures how good a model is: perplexity of a text, with divergence from another model; the share of multiple-choice
 * questions that it answers rightly; how well its answers match given ones. All with 95 % confidence intervals.
 *
 * It runs beside generations, in the same batches.
 *
 * Rejects with `INVALID_OPTION` (also for an item that is not one, with its place), `CONTEXT_OVERFLOW`, `NUMERIC_ERROR`,
 * `MODEL_NOT_FOUND` (a file of items cannot be read), `ABORTED`, `DISPOSED`.
 */
export async function evaluate<Task extends EvaluationTask>(
  model: Model,
  task: Task,
  options: EvaluateOptions<Task["type"]> = {},
): Promise<EvaluationResults[Task["type"]]> {
  if (!(model instanceof Model)) throw invalidOption("model", model, "a model that loadModel() returned");
  const read = new OptionReader(options, [...WATCH_NAMES, "onResult"]);
  const watch = { ...readWatch(read, "Evaluating"), model };
  const onResult = read.callback("onResult") as ((result: unknown) => void) | undefined;
  watch.checkAborted();
  const type: unknown = (task as EvaluationTask | undefined)?.type;
  switch (type) {
    case "perplexity":
      return evaluatePerplexity(checkPerplexity(task), { ...watch, onResult }) as Promise<never>;
    case "choices":
      return evaluateChoices(checkChoices(task), { ...watch, onResult }) as Promise<never>;
    case "answers":
      return evaluateAnswers(checkAnswers(task), { ...watch, onResult }) as Promise<never>;
    default:
      throw invalidOption("task.type", type, '"perplexity", "choices" or "answers"');
  }
}
