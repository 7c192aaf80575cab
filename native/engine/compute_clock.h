// The CPU time of the threads that ggml computes with.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#if defined(__linux__)
#include <time.h>
#endif

namespace coldstart {

class ComputeClock {
 public:
  // Finds the `threads` threads that OpenMP lends to the calling one, which are those that ggml's graphs run on when
  // the same thread computes them.
  explicit ComputeClock(uint32_t threads);

  // Seconds of CPU time of all of them together; none where the system or the build does not tell.
  std::optional<double> Seconds() const;

 private:
#if defined(__linux__)
  std::vector<clockid_t> clocks_;
#endif
};

}  // namespace coldstart
