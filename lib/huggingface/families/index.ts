import { invalidCheckpoint, unsupported } from "../errors.js";
import type { JsonObject } from "../json.js";
import type { Decoder, Family } from "./decoder.js";
import { gemma, gemma2, gemma3 } from "./gemma.js";
import { llama, mistral } from "./llama.js";
import { qwen2, qwen3, qwen3moe } from "./qwen.js";

const FAMILIES: readonly Family[] = [llama, mistral, qwen2, qwen3, qwen3moe, gemma, gemma2, gemma3];

/** Names of `architectures` in config.json that can be converted. */
export const ARCHITECTURES: readonly string[] = FAMILIES.flatMap(({ names }) => names);

export function readDecoder(config: JsonObject): Decoder {
  const names = config.array("architectures");
  const name = names?.[0];
  if (typeof name !== "string") throw config.wrong("architectures", "must name the model's class");
  const family = FAMILIES.find((candidate) => candidate.names.includes(name));
  if (family === undefined) {
    throw unsupported(`The model's architecture is ${name}. Known: ${ARCHITECTURES.join(", ")}.`, {
      architecture: name,
    });
  }
  const decoder = family.read(config);
  if (!(decoder.epsilon >= 0)) throw invalidCheckpoint(`rms_norm_eps of ${config.where} is ${decoder.epsilon}.`);
  return decoder;
}
