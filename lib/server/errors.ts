// Errors as OpenAI's API has them. Pure.

import { ColdstartError, type ErrorCode } from "../index.js";

export interface ApiError {
  status: number;
  body: { error: { message: string; type: string; param: string | null; code: string | null } };
  headers?: Record<string, string>;
}

interface Kind {
  status: number;
  type: string;
  code: string;
}

const BAD_REQUEST = { status: 400, type: "invalid_request_error" };

/** What a request can be told of; all others are the server's own trouble. */
const KINDS: Partial<Record<ErrorCode, Kind>> = {
  INVALID_OPTION: { ...BAD_REQUEST, code: "invalid_value" },
  INVALID_GRAMMAR: { ...BAD_REQUEST, code: "invalid_grammar" },
  INVALID_MEDIA: { ...BAD_REQUEST, code: "invalid_media" },
  CONTEXT_OVERFLOW: { ...BAD_REQUEST, code: "context_length_exceeded" },
  CHAT_TEMPLATE_FAILED: { ...BAD_REQUEST, code: "chat_template_failed" },
  UNSUPPORTED_MODEL: { ...BAD_REQUEST, code: "unsupported_model" },
  TOKENIZE_FAILED: { ...BAD_REQUEST, code: "tokenize_failed" },
  QUEUE_FULL: { status: 429, type: "rate_limit_error", code: "rate_limit_exceeded" },
  OUT_OF_MEMORY: { status: 503, type: "server_error", code: "out_of_memory" },
  DISPOSED: { status: 503, type: "server_error", code: "model_unloaded" },
  ENGINE_CRASHED: { status: 503, type: "server_error", code: "engine_crashed" },
};

/** Seconds after which a client may try again. */
const RETRY_AFTER = "1";

export function apiError(
  status: number,
  code: string,
  message: string,
  {
    param = null,
    type = status < 500 ? "invalid_request_error" : "server_error",
  }: { param?: string | null; type?: string } = {},
): ApiError {
  const retry = status === 429 || status === 503;
  return {
    status,
    body: { error: { message, type, param, code } },
    ...(retry && { headers: { "retry-after": RETRY_AFTER } }),
  };
}

/** What is thrown by routes for what is wrong with a request. */
export class RequestError extends Error {
  readonly api: ApiError;

  constructor(api: ApiError) {
    super(api.body.error.message);
    this.api = api;
  }
}

export function badRequest(message: string, param: string | null = null): RequestError {
  return new RequestError(apiError(400, "invalid_value", message, { param }));
}

/** Of anything that was thrown. What is nobody's business is not told. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof RequestError) return error.api;
  if (!(error instanceof ColdstartError)) return apiError(500, "internal_error", "The server failed.");
  const kind = KINDS[error.code];
  if (kind === undefined) return apiError(500, error.code.toLowerCase(), "The server failed.");
  const option = error.details["option"];
  const param = typeof option === "string" ? option : null;
  return apiError(kind.status, kind.code, error.message, { param, type: kind.type });
}
