// What the programs have in common that check and measure kernels on a GPU: reports as text or as lines of JSON, and
// times.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

namespace coldstart::cuda::testing {

// Ends the program when a call fails: there is nothing to go on with.
inline void Require(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(2);
}
#define COLDSTART_REQUIRE(call) ::coldstart::cuda::testing::Require((call), #call)

// Lines for people to standard output, and the same as lines of JSON to a file, if there is one.
class Report {
 public:
  explicit Report(const std::string& file) : file_(file.empty() ? nullptr : std::fopen(file.c_str(), "w")) {
    if (file.empty() || file_ != nullptr) return;
    std::fprintf(stderr, "%s cannot be written\n", file.c_str());
    std::exit(2);
  }
  ~Report() {
    if (file_ != nullptr) std::fclose(file_);
  }
  Report(const Report&) = delete;
  Report& operator=(const Report&) = delete;

  // Names and values, which are written as they are given (strings with quotes).
  void Line(const char* what, const std::vector<std::pair<std::string, std::string>>& fields) {
    std::printf("%-10s", what);
    for (const auto& [name, value] : fields) std::printf("  %s %s", name.c_str(), value.c_str());
    std::printf("\n");
    std::fflush(stdout);
    if (file_ == nullptr) return;
    std::fprintf(file_, "{\"what\":\"%s\"", what);
    for (const auto& [name, value] : fields) std::fprintf(file_, ",\"%s\":%s", name.c_str(), value.c_str());
    std::fprintf(file_, "}\n");
    std::fflush(file_);
  }
  void Failed() { ++failures_; }
  int failures() const { return failures_; }

 private:
  std::FILE* file_;
  int failures_ = 0;
};

inline std::string Text(const std::string& text) { return '"' + text + '"'; }
inline std::string Number(double value, int digits = 2) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}
inline std::string Number(int64_t value) { return std::to_string(value); }
inline std::string Number(uint64_t value) { return std::to_string(value); }
inline std::string Number(int value) { return std::to_string(value); }
inline std::string Truth(bool value) { return value ? "true" : "false"; }

// Seconds of what `enqueue` puts into the stream: the median of `repeats` after a first one.
inline double MedianSeconds(cudaStream_t stream, int repeats, const std::function<void(int)>& enqueue) {
  cudaEvent_t from = nullptr;
  cudaEvent_t to = nullptr;
  COLDSTART_REQUIRE(cudaEventCreate(&from));
  COLDSTART_REQUIRE(cudaEventCreate(&to));
  std::vector<double> seconds;
  for (int i = 0; i <= repeats; ++i) {
    COLDSTART_REQUIRE(cudaEventRecord(from, stream));
    enqueue(i);
    COLDSTART_REQUIRE(cudaEventRecord(to, stream));
    COLDSTART_REQUIRE(cudaEventSynchronize(to));
    float milliseconds = 0;
    COLDSTART_REQUIRE(cudaEventElapsedTime(&milliseconds, from, to));
    if (i > 0) seconds.push_back(1e-3 * static_cast<double>(milliseconds));
  }
  COLDSTART_REQUIRE(cudaGetLastError());
  static_cast<void>(cudaEventDestroy(from));
  static_cast<void>(cudaEventDestroy(to));
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

inline bool HasFlag(int count, char** arguments, const char* flag) {
  for (int i = 1; i < count; ++i) {
    if (std::strcmp(arguments[i], flag) == 0) return true;
  }
  return false;
}

// The argument after `flag`, or `otherwise`.
inline std::string Option(int count, char** arguments, const char* flag, const std::string& otherwise) {
  for (int i = 1; i + 1 < count; ++i) {
    if (std::strcmp(arguments[i], flag) == 0) return arguments[i + 1];
  }
  return otherwise;
}

}  // namespace coldstart::cuda::testing
