// How many CPU threads to compute with. Pure.
//
// All threads of a step wait for each other some hundred times. When another process takes one of their cores, each of
// these waits may last until the scheduler's next turn: two threads on two cores beside one busy process were measured
// at a tenth of the speed of one thread. So when the threads do not get the time they ask for, fewer are used, and
// after a while more are tried again.
#pragma once

#include <cstdint>

namespace coldstart {

class ThreadGovernor {
 public:
  explicit ThreadGovernor(uint32_t most) : most_(most), threads_(most) {}

  // Threads to use now.
  uint32_t threads() const { return threads_; }

  // A stretch of computing with threads(): its length and the CPU time that those threads got in it, in seconds.
  void Observe(double wall, double cpu);

 private:
  const uint32_t most_;
  uint32_t threads_;
  double since_change_ = 0;  // seconds of computing
  double patience_ = kLeastPatience;

  static constexpr double kLeastPatience = 0.5;
  static constexpr double kMostPatience = 16;
};

}  // namespace coldstart
