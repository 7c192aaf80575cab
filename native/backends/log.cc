#include "backends/log.h"

#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "backends/cpu_variant.h"
#include "llama.h"

namespace coldstart {

namespace {

thread_local LogCapture::Messages* captured = nullptr;

// The least level to print; kSilent prints nothing.
constexpr int kSilent = 1000;

int LevelFromEnvironment() {
  const char* name = std::getenv("COLDSTART_LOG");
  const std::string_view level = name == nullptr ? "" : name;
  if (level == "debug") return GGML_LOG_LEVEL_DEBUG;
  if (level == "info") return GGML_LOG_LEVEL_INFO;
  if (level == "warn") return GGML_LOG_LEVEL_WARN;
  if (level == "error") return GGML_LOG_LEVEL_ERROR;
  return kSilent;
}

void OnLog(ggml_log_level level, const char* text, void* /*user_data*/) {
  static const int least = LevelFromEnvironment();
  // A continuation belongs to the message before it, whose level is not known any more; it matters only for dots of
  // progress.
  const bool loud = level != GGML_LOG_LEVEL_CONT && level >= least;
  // The order of ggml's levels: none, debug, info, warn, error, cont.
  if (loud) std::fputs(text, stderr);
  if (captured == nullptr) return;
  if (level == GGML_LOG_LEVEL_ERROR) captured->errors.emplace_back(text);
  if (level == GGML_LOG_LEVEL_WARN) captured->warnings.emplace_back(text);
}

// "llama_model_load: error loading model: x\n" -> "error loading model: x"
std::string WithoutFunctionName(std::string text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
  const size_t colon = text.find(": ");
  if (colon == std::string::npos) return text;
  for (size_t i = 0; i < colon; ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (!std::isalnum(c) && c != '_') return text;
  }
  return text.substr(colon + 2);
}

}  // namespace

void StartLlama() {
  static std::once_flag once;
  std::call_once(once, [] {
    llama_log_set(OnLog, nullptr);
    LoadCpuVariant();
    llama_backend_init();
  });
}

LogCapture::LogCapture() : outer_(std::exchange(captured, &messages_)) {}

LogCapture::~LogCapture() { captured = outer_; }

std::string LogCapture::Errors() const {
  std::string joined;
  for (const std::string& text : messages_.errors) {
    if (!joined.empty()) joined += "; ";
    joined += WithoutFunctionName(text);
  }
  return joined;
}

}  // namespace coldstart
