#include "engine/thread_governor.h"

#include <algorithm>
#include <cmath>

namespace coldstart {

void ThreadGovernor::Observe(double wall, double cpu) {
  // Cores that the threads wanted and did not get.
  constexpr double kTolerated = 0.35;
  const double lost = threads_ - cpu / wall;
  since_change_ += wall;
  if (threads_ > 1 && lost > kTolerated) {
    // Just after trying more again: not yet. Otherwise this is new.
    const bool tried_again = threads_ == most_ && since_change_ < kLeastPatience;
    patience_ = tried_again ? std::min(2 * patience_, kMostPatience) : kLeastPatience;
    const auto fewer = static_cast<uint32_t>(std::max(1.0, std::round(lost)));
    threads_ -= std::min(fewer, threads_ - 1);
    since_change_ = 0;
  } else if (threads_ < most_ && since_change_ >= patience_) {
    threads_ = most_;
    since_change_ = 0;
  }
}

}  // namespace coldstart
