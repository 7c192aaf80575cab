import { invalidOption, OptionReader } from "../options.js";
import type { Model } from "../model.js";
import type { Evaluation } from "./evaluate.js";
import { checkItems, inOrder, readItem, type Items } from "./items.js";
import { wilson, type Estimate } from "./statistics.js";

/** A question with answers to choose from. */
export interface Question {
  /** What precedes each of the choices, exactly: end it with what separates it from them, as `"\nAnswer:"`. */
  question: string;
  /** Ways to go on, at least two; usually each begins with a space. */
  choices: string[];
  /** Index of the right one. */
  answer: number;
}

export interface ChoicesTask {
  type: "choices";
  /** Questions, or the path of a file with one a line, as JSON. */
  items: Items<Question>;
}

export interface ChoicesResult {
  /** Share of the questions whose right choice the model finds the most likely. */
  accuracy: Estimate;
  /** The same, by the log-probability of a byte: it does not prefer short choices. */
  accuracyByByte: Estimate;
  questions: number;
  /** The last question's: log-probabilities of its choices, and what the model chose by each measure. */
  last: { index: number; logprobs: number[]; chosen: number; chosenByByte: number } | undefined;
}

export function checkChoices(task: unknown): AsyncIterable<unknown> {
  const read = new OptionReader(task, ["type", "items"], "task.");
  return checkItems(read.raw("items"), "task.items");
}

export async function evaluateChoices(
  items: AsyncIterable<unknown>,
  { model, onProgress, onResult, signal, checkAborted }: Evaluation<ChoicesResult>,
): Promise<ChoicesResult> {
  const result: ChoicesResult = { accuracy: wilson(0, 0), accuracyByByte: wilson(0, 0), questions: 0, last: undefined };
  let [right, rightByByte] = [0, 0];
  const ask = async (item: unknown, index: number) => {
    const question = checkQuestion(item, index);
    return { question, logprobs: await scoreChoices(model, question, signal) };
  };
  // Enough that no sequence is idle; the choices of a question share what is computed of it.
  for await (const { question, logprobs } of inOrder(items, Math.max(2, model.placement.parallel), ask)) {
    checkAborted();
    const bytes = question.choices.map((choice) => Math.max(1, Buffer.byteLength(choice)));
    const chosen = largest(logprobs);
    const chosenByByte = largest(logprobs.map((logprob, i) => logprob / (bytes[i] ?? 1)));
    right += chosen === question.answer ? 1 : 0;
    rightByByte += chosenByByte === question.answer ? 1 : 0;
    result.last = { index: result.questions, logprobs, chosen, chosenByByte };
    result.questions++;
    result.accuracy = wilson(right, result.questions);
    result.accuracyByByte = wilson(rightByByte, result.questions);
    onResult?.({ ...result });
  }
  if (result.questions === 0) throw invalidOption("task.items", [], "at least one question");
  onProgress?.(1);
  return result;
}

async function scoreChoices(
  model: Model,
  { question, choices }: Question,
  signal: AbortSignal | undefined,
): Promise<number[]> {
  const options = { given: question, ...(signal && { signal }) };
  const scores = await Promise.all(choices.map((choice) => model.score(choice, options)));
  return scores.map(({ logprob }) => logprob);
}

function checkQuestion(item: unknown, index: number): Question {
  const read = readItem(item, index, ["question", "choices", "answer"]);
  const at = (name: string) => `items[${index}].${name}`;
  const question = read.string("question", "");
  const choices = read.raw("choices");
  const answer = read.raw("answer");
  if (question === "") throw invalidOption(at("question"), question, "a text");
  const texts = Array.isArray(choices) && choices.every((choice) => typeof choice === "string" && choice !== "");
  if (!texts || choices.length < 2) throw invalidOption(at("choices"), choices, "an array of at least two texts");
  const isIndex = Number.isInteger(answer) && (answer as number) >= 0 && (answer as number) < choices.length;
  if (!isIndex) throw invalidOption(at("answer"), answer, `the index of a choice, 0 to ${choices.length - 1}`);
  return { question, choices: choices as string[], answer: answer as number };
}

function largest(values: number[]): number {
  return values.indexOf(Math.max(...values));
}
