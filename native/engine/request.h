// What goes into the engine.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/sampler.h"

namespace coldstart {

// The one clock of all timings.
using Clock = std::chrono::steady_clock;

struct Request {
  uint32_t id = 0;
  std::vector<llama_token> prompt;
  std::optional<uint32_t> max_tokens;  // none: as many as the context holds
  std::vector<std::string> stop;
  SamplingOptions sampling;
  Clock::time_point submitted;
  // Set from any thread; the engine looks at it between steps.
  std::shared_ptr<std::atomic<bool>> cancelled = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace coldstart
