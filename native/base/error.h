// The one exception type of native/. The addon's edge turns it into lib/errors.ts's ColdstartError.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace coldstart {

// Stable codes, as users see them; lib/errors.ts documents each.
enum class ErrorCode {
  kModelNotFound,
  kInvalidGguf,
  kInvalidCheckpoint,
  kUnsupportedModel,
  kInvalidOption,
  kContextOverflow,
  kOutOfMemory,
  kNumericError,
  kAborted,
  kDisposed,
  kLoadFailed,
  kTokenizeFailed,
  kInvalidGrammar,
  kChatTemplateFailed,
  kQueueFull,
  kSpillFailed,
  kWriteFailed,
  kBackendUnavailable,
  kWorkerUnreachable,
  kInvalidMedia,
  kInternal,
};

const char* ToString(ErrorCode code);

// A value involved in the error, under the name it has in `error.details`.
using ErrorDetail = std::pair<std::string, std::variant<double, std::string>>;

class Error : public std::exception {
 public:
  // `message`: what happened, a sentence with the values. `remedy`: what to do about it, a sentence.
  Error(ErrorCode code, std::string message, std::string remedy, std::vector<ErrorDetail> details = {});

  const char* what() const noexcept override { return message_.c_str(); }
  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }
  const std::string& remedy() const { return remedy_; }
  const std::vector<ErrorDetail>& details() const { return details_; }

 private:
  ErrorCode code_;
  std::string message_;
  std::string remedy_;
  std::vector<ErrorDetail> details_;
};

// The exception now being handled, as an Error: itself if it is one, kOutOfMemory for std::bad_alloc, kInternal with
// `context` for anything else. Call inside a catch block.
Error CurrentError(const std::string& context);

}  // namespace coldstart
