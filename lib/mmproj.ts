// The projector that belongs to a model, where it is not named.

import { readdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

/** Of files of equal names but for their precision, the one to take. */
const PRECISIONS = ["f16", "bf16", "q8_0", "f32"];

/**
 * The projector beside a model: a GGUF file whose name has "mmproj". Of several, those that have the most of the model's name, and of these
 * F16 before others. Undefined when there is none.
 */
export async function findProjector(model: string): Promise<string | undefined> {
  const folder = dirname(model);
  const names = await readdir(folder).catch(() => []);
  const best = chooseProjector(names, basename(model));
  return best === undefined ? undefined : join(folder, best);
}

/** Of names of files. Pure. */
export function chooseProjector(names: readonly string[], model: string): string | undefined {
  const words = (name: string) => new Set(name.toLowerCase().split(/[-_.]/));
  const own = words(model);
  const score = (name: string) => {
    const has = words(name);
    const common = [...has].filter((word) => own.has(word) && !["gguf", ...PRECISIONS].includes(word)).length;
    const precision = PRECISIONS.findIndex((one) => has.has(one));
    return [-common, precision === -1 ? PRECISIONS.length : precision] as const;
  };
  return names
    .filter((name) => /mmproj.*\.gguf$/i.test(name))
    .map((name) => ({ name, score: score(name) }))
    .sort((a, b) => a.score[0] - b.score[0] || a.score[1] - b.score[1] || (a.name < b.name ? -1 : 1))[0]?.name;
}
