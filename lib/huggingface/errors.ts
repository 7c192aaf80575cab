import { ColdstartError } from "../errors.js";

/** The folder is damaged, incomplete or contradicts itself. `what` is a sentence. */
export function invalidCheckpoint(
  what: string,
  details: Record<string, unknown> = {},
  remedy = "Download the folder again and compare sizes and checksums with the source.",
): ColdstartError {
  return new ColdstartError("INVALID_CHECKPOINT", what, { details, remedy });
}

/** The folder is sound, and what is in it cannot be converted. `what` is a sentence that names it. */
export function unsupported(
  what: string,
  details: Record<string, unknown> = {},
  remedy = "Use another model, or a GGUF file of this one.",
): ColdstartError {
  return new ColdstartError("UNSUPPORTED_MODEL", what, { details, remedy });
}
