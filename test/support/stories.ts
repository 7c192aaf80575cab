// Text that the embedded model knows, with some that it does not.

import type { Model } from "../../lib/index.js";
import { PROMPT } from "./models.js";

/** Without a newline at its end, which llama.cpp's tools take away. */
export async function writeStories(model: Model, count: number): Promise<string> {
  const stories: string[] = [];
  for (let seed = 1; seed <= count; seed++)
    stories.push(PROMPT + (await model.generate(PROMPT, { seed, maxTokens: 120, temperature: 1 }).text()));
  return `${stories.join("\n")}\nThe harbour lay silent; <s> nobody spoke of 1917 — or of its 12 ships.`;
}
