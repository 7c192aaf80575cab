#include "engine/guess_length.h"

#include <algorithm>

namespace coldstart {

namespace {

constexpr uint32_t kMost = 64;
// Misses before there is a pause.
constexpr uint32_t kPatience = 4;
// Where guesses are always wrong, one in so many steps costs little, and finds out when that changes.
constexpr uint32_t kLongestPause = 64;

}  // namespace

uint32_t GuessLength::Next() {
  if (pause_ == 0) return most_;
  --pause_;
  return 0;
}

void GuessLength::Observe(uint32_t guessed, uint32_t right) {
  most_ = right == guessed ? std::min(2 * most_, kMost) : std::max(right, 1u);
  if (right > 0) {
    misses_ -= std::min(misses_, 2 * right);
  } else if (++misses_ >= kPatience) {
    pause_ = std::min(1u << std::min(misses_ - kPatience + 2, 31u), kLongestPause);
  }
}

}  // namespace coldstart
