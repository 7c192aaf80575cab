import type { GenerateOptions } from "../generate-options.js";
import { invalidOption, OptionReader } from "../options.js";
import type { Evaluation } from "./evaluate.js";
import { checkItems, inOrder, readItem, type Items } from "./items.js";
import { Moments, wilson, type Estimate } from "./statistics.js";

/** A prompt and what is to come of it. */
export interface PromptWithAnswer {
  prompt: string;
  /** The right answer, or several of which any is. */
  answer: string | string[];
}

export interface AnswersTask {
  type: "answers";
  /** Prompts, or the path of a file with one a line, as JSON. */
  items: Items<PromptWithAnswer>;
  /** How to generate. Default: `{ temperature: 0, maxTokens: 64, stop: "\n" }`, whose fields hold where it does not say otherwise. */
  generate?: Omit<GenerateOptions, "signal">;
}

export interface AnswersResult {
  /** Share of the answers that are the same as a right one, normalized. */
  exactMatch: Estimate;
  /** Mean over all answers of the harmonic mean of precision and recall of words, normalized; against the nearest right answer. */
  f1: Estimate;
  answers: number;
  /** The last answer. */
  last: { index: number; answer: string; exactMatch: boolean; f1: number } | undefined;
}

interface CheckedAnswers {
  items: AsyncIterable<unknown>;
  generate: GenerateOptions;
}

export function checkAnswers(task: unknown): CheckedAnswers {
  const read = new OptionReader(task, ["type", "items", "generate"], "task.");
  const wanted = (read.raw("generate") ?? {}) as GenerateOptions;
  if (typeof wanted !== "object") throw invalidOption("task.generate", wanted, "options of generate()");
  return {
    items: checkItems(read.raw("items"), "task.items"),
    generate: { temperature: 0, maxTokens: 64, stop: "\n", ...wanted },
  };
}

export async function evaluateAnswers(
  { items, generate }: CheckedAnswers,
  { model, onProgress, onResult, signal, checkAborted }: Evaluation<AnswersResult>,
): Promise<AnswersResult> {
  model.checkOptions(generate); // Before the first item.
  const f1s = new Moments();
  let exact = 0;
  const result: AnswersResult = {
    exactMatch: wilson(0, 0),
    f1: { value: NaN, low: 0, high: 1 },
    answers: 0,
    last: undefined,
  };
  const ask = async (item: unknown, index: number) => {
    const { prompt, answers } = checkItem(item, index);
    return { answers, answer: await model.generate(prompt, { ...generate, ...(signal && { signal }) }).text() };
  };
  for await (const { answers, answer } of inOrder(items, Math.max(2, model.placement.parallel), ask)) {
    checkAborted();
    const exactMatch = answers.some((right) => normalize(right) === normalize(answer));
    const f1 = Math.max(...answers.map((right) => wordF1(answer, right)));
    exact += exactMatch ? 1 : 0;
    f1s.add(f1);
    const { value, low, high } = f1s.estimate();
    result.last = { index: result.answers, answer, exactMatch, f1 };
    result.answers++;
    result.exactMatch = wilson(exact, result.answers);
    result.f1 = { value, low: Math.max(low, 0), high: Math.min(high, 1) };
    onResult?.({ ...result });
  }
  if (result.answers === 0) throw invalidOption("task.items", [], "at least one prompt");
  onProgress?.(1);
  return result;
}

function checkItem(item: unknown, index: number): { prompt: string; answers: string[] } {
  const read = readItem(item, index, ["prompt", "answer"]);
  const prompt = read.string("prompt", "");
  const answer = read.raw("answer");
  if (prompt === "") throw invalidOption(`items[${index}].prompt`, prompt, "a text");
  const answers: unknown[] = Array.isArray(answer) ? answer : [answer];
  if (answers.length === 0 || !answers.every((one) => typeof one === "string"))
    throw invalidOption(`items[${index}].answer`, answer, "a text, or an array of texts");
  return { prompt, answers: answers };
}

/** As the evaluation of SQuAD does (Rajpurkar et al. 2016): small letters, without punctuation and articles, spaces between words. */
export function normalize(text: string): string {
  return text
    .toLowerCase()
    .replace(/[!-/:-@[-`{-~]/g, "")
    .replace(/\b(a|an|the)\b/g, " ")
    .split(/\s+/)
    .filter(Boolean)
    .join(" ");
}

/** Of the words that two texts have in common, each as often as both have it. */
export function wordF1(answer: string, right: string): number {
  const [words, rightWords] = [normalize(answer).split(" "), normalize(right).split(" ")];
  const left = new Map<string, number>();
  for (const word of rightWords) left.set(word, (left.get(word) ?? 0) + 1);
  let common = 0;
  for (const word of words) {
    const count = left.get(word) ?? 0;
    if (count === 0) continue;
    left.set(word, count - 1);
    common++;
  }
  return common === 0 ? 0 : (2 * common) / (words.length + rightWords.length);
}
