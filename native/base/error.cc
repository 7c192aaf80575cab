#include "base/error.h"

#include <new>

namespace coldstart {

const char* ToString(ErrorCode code) {
  switch (code) {
    case ErrorCode::kModelNotFound: return "MODEL_NOT_FOUND";
    case ErrorCode::kInvalidGguf: return "INVALID_GGUF";
    case ErrorCode::kInvalidCheckpoint: return "INVALID_CHECKPOINT";
    case ErrorCode::kUnsupportedModel: return "UNSUPPORTED_MODEL";
    case ErrorCode::kInvalidOption: return "INVALID_OPTION";
    case ErrorCode::kContextOverflow: return "CONTEXT_OVERFLOW";
    case ErrorCode::kOutOfMemory: return "OUT_OF_MEMORY";
    case ErrorCode::kNumericError: return "NUMERIC_ERROR";
    case ErrorCode::kAborted: return "ABORTED";
    case ErrorCode::kDisposed: return "DISPOSED";
    case ErrorCode::kLoadFailed: return "LOAD_FAILED";
    case ErrorCode::kTokenizeFailed: return "TOKENIZE_FAILED";
    case ErrorCode::kInvalidGrammar: return "INVALID_GRAMMAR";
    case ErrorCode::kChatTemplateFailed: return "CHAT_TEMPLATE_FAILED";
    case ErrorCode::kQueueFull: return "QUEUE_FULL";
    case ErrorCode::kSpillFailed: return "SPILL_FAILED";
    case ErrorCode::kWriteFailed: return "WRITE_FAILED";
    case ErrorCode::kBackendUnavailable: return "BACKEND_UNAVAILABLE";
    case ErrorCode::kWorkerUnreachable: return "WORKER_UNREACHABLE";
    case ErrorCode::kInvalidMedia: return "INVALID_MEDIA";
    case ErrorCode::kInternal: return "INTERNAL";
  }
  return "INTERNAL";
}

Error::Error(ErrorCode code, std::string message, std::string remedy, std::vector<ErrorDetail> details)
    : code_(code), message_(std::move(message)), remedy_(std::move(remedy)), details_(std::move(details)) {}

Error CurrentError(const std::string& context) {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return Error(ErrorCode::kOutOfMemory, context + ": the system refused memory.",
                 "Use a smaller model, a shorter context length or a more quantized KV cache.");
  } catch (const std::exception& error) {
    return Error(ErrorCode::kInternal, context + ": " + error.what() + ".",
                 "This is likely a defect of coldstart or llama.cpp; please report it with the model's name.");
  } catch (...) {
    return Error(ErrorCode::kInternal, context + ": an unknown exception.",
                 "This is likely a defect of coldstart or llama.cpp; please report it with the model's name.");
  }
}

}  // namespace coldstart
