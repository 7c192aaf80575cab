// The models that tests run on.

import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { loadModel, type LoadOptions, type Model } from "../../lib/index.js";

export const root = fileURLToPath(new URL("../..", import.meta.url));

/** The model in the package: SentencePiece vocabulary of 640 with byte tokens, context 256, F32. */
export const TINY_STORIES = path.join(root, "models", "tiny-stories.gguf");

/** Models that are not in the repository, for tests that run when they are there. */
const shared = process.env["COLDSTART_TEST_MODELS"] ?? path.join(root, "..", "shared", "models");

/** Karpathy's stories260K, which nobody here made; undefined when it is not on this machine. */
export const STORIES_260K = present(path.join(shared, "stories260K.gguf"));
/** Its greedy continuation of "Once upon a time", by llama.cpp's own tools. */
export const STORIES_260K_GREEDY = STORIES_260K && readFileSync(path.join(shared, "stories260K.greedy.txt"), "utf8");

function present(file: string): string | undefined {
  return existsSync(file) ? file : undefined;
}

/** Runs `body` with a model on one thread, so that results do not depend on how work is split, and disposes it. */
export async function withModel<T>(
  options: LoadOptions & { path?: string },
  body: (model: Model) => Promise<T>,
): Promise<T> {
  const { path: file = TINY_STORIES, ...load } = options;
  const model = await loadModel(file, { threads: 1, ...load });
  try {
    return await body(model);
  } finally {
    await model.dispose();
  }
}

/** On the embedded model's distribution. */
export const PROMPT = "Once upon a time, there was";
