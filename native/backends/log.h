// llama.cpp's log: one global callback, so that it is caught once for the process.
#pragma once

#include <string>
#include <vector>

namespace coldstart {

// Starts llama.cpp's back ends and takes over its log. Called by whoever uses llama.cpp first; later calls do nothing.
// Throws kBackendUnavailable where there is no CPU backend for this processor.
// COLDSTART_LOG=error|warn|info|debug prints messages of at least that level to stderr; by default none.
void StartLlama();

// Collects what llama.cpp reports as errors and warnings on this thread while it lives, to explain what went wrong.
class LogCapture {
 public:
  LogCapture();
  ~LogCapture();
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;

  // The error messages so far, joined by "; ", without the names of functions in front. Empty when there were none.
  std::string Errors() const;
  const std::vector<std::string>& Warnings() const { return messages_.warnings; }

  struct Messages {
    std::vector<std::string> errors;
    std::vector<std::string> warnings;
  };

 private:
  Messages messages_;
  Messages* outer_;
};

}  // namespace coldstart
