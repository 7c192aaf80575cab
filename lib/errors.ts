/**
 * What can go wrong, by stable code.
 *
 * | code | meaning |
 * |---|---|
 * | `MODEL_NOT_FOUND` | there is no file at the path, or it is a directory |
 * | `INVALID_GGUF` | the file is not GGUF, is truncated or damaged |
 * | `INVALID_CHECKPOINT` | a folder in Hugging Face's layout is damaged or incomplete |
 * | `UNSUPPORTED_MODEL` | the file is sound, and this version cannot run what is in it |
 * | `INVALID_OPTION` | an option has a wrong name, type or value |
 * | `INVALID_GRAMMAR` | the grammar cannot be parsed or satisfied |
 * | `CHAT_TEMPLATE_FAILED` | the chat template is wrong, or does not take the messages |
 * | `INCOMPLETE_ANSWER` | an answer that was to be read as JSON is not a whole one |
 * | `CONTEXT_OVERFLOW` | prompt and `maxTokens` do not fit the context length |
 * | `INVALID_SNAPSHOT` | a saved session is damaged, or of another model, version or KV cache |
 * | `QUEUE_FULL` | as many requests wait as `maxQueue` allows |
 * | `SPILL_FAILED` | only in warnings: a prefix could not be kept in `kvCache.spill.directory` |
 * | `OUT_OF_MEMORY` | the system or a device refused memory |
 * | `BACKEND_UNAVAILABLE` | no GPU can be used, and `strict` forbids the CPU instead |
 * | `LOAD_FAILED` | llama.cpp could not load the model; the message has its reason |
 * | `WRITE_FAILED` | a file could not be written: no room, no permission |
 * | `DOWNLOAD_FAILED` | a file could not be fetched, or is not what it should be |
 * | `TOKENIZE_FAILED` | the vocabulary cannot represent the text |
 * | `NUMERIC_ERROR` | the model computed NaN or infinite logits |
 * | `ABORTED` | an `AbortSignal` ended loading |
 * | `DISPOSED` | the model was disposed |
 * | `WORKER_UNREACHABLE` | a machine of `workers` does not answer |
 * | `INVALID_MEDIA` | an image or recording cannot be read, or is too large |
 * | `WORKER_MISMATCH` | a machine of `workers` runs another release, or something else |
 * | `ENGINE_CRASHED` | the process of an isolated model ended unexpectedly |
 * | `NATIVE_ADDON_MISSING` | the native addon is not built for this machine |
 * | `INTERNAL` | a defect of coldstart or llama.cpp |
 */
export type ErrorCode =
  | "MODEL_NOT_FOUND"
  | "INVALID_GGUF"
  | "INVALID_CHECKPOINT"
  | "UNSUPPORTED_MODEL"
  | "INVALID_OPTION"
  | "INVALID_GRAMMAR"
  | "CHAT_TEMPLATE_FAILED"
  | "INCOMPLETE_ANSWER"
  | "CONTEXT_OVERFLOW"
  | "INVALID_SNAPSHOT"
  | "QUEUE_FULL"
  | "SPILL_FAILED"
  | "OUT_OF_MEMORY"
  | "BACKEND_UNAVAILABLE"
  | "LOAD_FAILED"
  | "WRITE_FAILED"
  | "DOWNLOAD_FAILED"
  | "TOKENIZE_FAILED"
  | "NUMERIC_ERROR"
  | "ABORTED"
  | "DISPOSED"
  | "WORKER_UNREACHABLE"
  | "INVALID_MEDIA"
  | "WORKER_MISMATCH"
  | "ENGINE_CRASHED"
  | "NATIVE_ADDON_MISSING"
  | "INTERNAL";

/** The one class of errors that coldstart throws or rejects with. */
export class ColdstartError extends Error {
  override readonly name = "ColdstartError";
  /** Stable; the message is not. */
  readonly code: ErrorCode;
  /** The values involved, by name. */
  readonly details: Readonly<Record<string, unknown>>;
  /** What to do about it: a sentence, also at the end of the message. */
  readonly remedy: string;

  /** @param what what happened, a sentence with the values */
  constructor(
    code: ErrorCode,
    what: string,
    { details = {}, remedy = "", cause }: { details?: Record<string, unknown>; remedy?: string; cause?: unknown } = {},
  ) {
    super(remedy === "" ? what : `${what} ${remedy}`, cause === undefined ? undefined : { cause });
    this.code = code;
    this.details = details;
    this.remedy = remedy;
  }
}

/** @internal What happened, without what to do. */
export function withoutRemedy({ message, remedy }: ColdstartError): string {
  return remedy === "" ? message : message.slice(0, -remedy.length - 1);
}
