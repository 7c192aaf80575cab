// `coldstart quantize --compare`

import { writeFileSync } from "node:fs";
import path from "node:path";
import { writeAtomically } from "../atomic-file.js";
import { ColdstartError } from "../errors.js";
import {
  compareQuantizations,
  type CompareQuantizationsOptions,
  type QuantizationRow,
} from "../evaluation/compare-quantizations.js";
import type { QuantizationType } from "../quantization/types.js";
import { plotComparison } from "./compare-plot.js";
import { formatBytes, formatTable } from "./format.js";
import { given } from "./given.js";
import { interruptible } from "./interruptible.js";
import { withProgress } from "./progress.js";
import { readText } from "./read-text.js";

export interface CompareFlags {
  compare?: string[];
  text?: string;
  chunkLength?: number;
  svg?: string;
  importanceMatrix?: string | URL;
  threads?: number;
  json?: boolean;
  quiet?: boolean;
}

export async function compare(input: string, flags: CompareFlags): Promise<void> {
  const { text, chunkLength, importanceMatrix, threads, svg, json = false, quiet = false } = flags;
  if (text === undefined) {
    throw new ColdstartError("INVALID_OPTION", "--compare measures on a text, and there is none.", {
      remedy: "Give --text <file>.",
    });
  }
  const options: CompareQuantizationsOptions = {
    types: (flags.compare ?? []).flatMap((types) => types.split(",")) as QuantizationType[],
    text: readText(text, "--text"),
    load: given({ threads }),
    ...given({ chunkLength, importanceMatrix }),
  };
  const rows = await interruptible((signal) =>
    withProgress("Comparing", quiet || json, (progress) =>
      compareQuantizations(input, { ...options, ...progress, signal }),
    ),
  );
  if (json) console.log(JSON.stringify(rows, null, 2));
  else console.log(table(rows));
  if (svg === undefined) return;
  const picture = plotComparison(`${path.basename(input)}: what quantizing costs`, rows);
  // eslint-disable-next-line @typescript-eslint/require-await -- It writes at once.
  await writeAtomically([svg], async ([partial = ""]) => writeFileSync(partial, picture, { flag: "wx" }));
}

function table(rows: readonly QuantizationRow[]): string {
  const head = ["TYPE", "SIZE", "BITS PER WEIGHT", "PERPLEXITY", "RATIO", "KL DIVERGENCE", "SAME TOKEN"];
  const half = ({ low, high }: { low: number; high: number }) => (high - low) / 2;
  return formatTable([
    head,
    ...rows.map(({ type, bytes, bitsPerWeight, perplexity, perplexityRatio, divergence, topAgreement }) => [
      type === "none" ? "as it is" : type,
      formatBytes(bytes),
      bitsPerWeight.toFixed(2),
      perplexity.value.toFixed(4),
      perplexityRatio.value.toFixed(4),
      type === "none" ? "" : `${divergence.value.toFixed(5)} ± ${half(divergence).toFixed(5)}`,
      type === "none" ? "" : `${(100 * topAgreement.value).toFixed(2)} %`,
    ]),
  ]);
}
