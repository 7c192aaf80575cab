// The number of CPU threads, as the ThreadGovernor has it from what the threads that compute are given.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>

#include "engine/compute_clock.h"
#include "engine/thread_governor.h"

namespace coldstart {

class AdaptiveThreads {
 public:
  explicit AdaptiveThreads(uint32_t most) : governor_(most) {}

  uint32_t threads() const { return governor_.threads(); }

  // After each turn of the engine, on its thread; `computed`: a step was computed in it. True when threads() changed.
  bool AfterTurn(bool computed);

 private:
  using Clock = std::chrono::steady_clock;

  ThreadGovernor governor_;
  std::optional<ComputeClock> clock_;  // of the threads in use
  // Since when, and how much CPU time had been used then, while steps follow one another.
  std::optional<std::pair<Clock::time_point, double>> stretch_;
};

}  // namespace coldstart
