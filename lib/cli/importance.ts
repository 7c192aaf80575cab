import path from "node:path";
import { loadModel } from "../load-model.js";
import { computeImportance } from "../quantization/compute-importance.js";
import { placementOf, type PlacementFlags } from "./commands/placement.js";
import { given } from "./given.js";
import { interruptible } from "./interruptible.js";
import { withProgress } from "./progress.js";
import { readText } from "./read-text.js";

export interface ImportanceFlags extends PlacementFlags {
  text: string[];
  chunkLength?: number;
  outputMatrix?: boolean;
  threads?: number;
  json?: boolean;
  quiet?: boolean;
}

export async function importance(file: string, output: string, flags: ImportanceFlags): Promise<void> {
  const { chunkLength, outputMatrix, threads, json, quiet } = flags;
  const texts = flags.text.map((name) => readText(name, "--text"));
  const datasets = flags.text.map((name) => path.basename(name));
  const result = await interruptible(async (signal) => {
    await using model = await loadModel(file, { ...placementOf(flags), ...given({ threads }), signal });
    return await withProgress("Reading", quiet === true || json === true, (progress) =>
      computeImportance(model, texts, output, {
        ...given({ chunkLength, outputMatrix }),
        datasets,
        ...progress,
        signal,
      }),
    );
  });
  if (json) console.log(JSON.stringify(result, null, 2));
  else if (!quiet) console.log(summary(result));
}

function summary({
  path: file,
  tokens,
  chunks,
  matrices,
  unseenExperts,
}: Awaited<ReturnType<typeof computeImportance>>): string {
  const unseen = unseenExperts > 0 ? `; no token came to ${unseenExperts} experts: give more text` : "";
  return `${file}: ${matrices} matrices, ${tokens} tokens in ${chunks} chunks${unseen}`;
}
