#include "engine/adaptive_threads.h"

namespace coldstart {

bool AdaptiveThreads::AfterTurn(bool computed) {
  constexpr std::chrono::duration<double> kStretch(0.03);  // ten turns of the scheduler
  if (!computed) {
    stretch_.reset();
    return false;
  }
  if (!clock_) clock_.emplace(threads());
  const Clock::time_point now = Clock::now();
  if (stretch_ && now - stretch_->first < kStretch) return false;

  const uint32_t before = threads();
  const std::optional<double> cpu = clock_->Seconds();
  if (stretch_ && cpu) {
    governor_.Observe(std::chrono::duration<double>(now - stretch_->first).count(), *cpu - stretch_->second);
  }
  const bool changed = threads() != before;
  stretch_.reset();
  if (cpu && !changed) stretch_.emplace(now, *cpu);
  // OpenMP lends other threads when it is asked for another number of them.
  if (!cpu || changed) clock_.reset();
  return changed;
}

}  // namespace coldstart
