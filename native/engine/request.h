// What goes into the engine.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/adapters.h"
#include "engine/sampler.h"
#include "engine/scorer.h"
#include "media/projector.h"

namespace coldstart {

// The one clock of all timings.
using Clock = std::chrono::steady_clock;

// What to do when prompt and answer do not fit the context.
enum class Overflow {
  kError,           // refuse the request
  kStop,            // end the answer there
  kShift,           // drop the older half of the text and go on
  kTruncateMiddle,  // of a prompt that is too long, drop the middle; end the answer as kStop does
};

struct Request {
  uint32_t id = 0;
  std::vector<llama_token> prompt;     // with MediaTokens() in the places of `media`
  std::vector<PlacedMedia> media;      // in order
  std::optional<uint32_t> max_tokens;  // none: as many as the context holds; 0: only compute the prompt
  std::vector<AdapterUse> adapters;    // to compute with
  Overflow overflow = Overflow::kError;
  int32_t priority = 0;   // higher ones start first
  bool snapshot = false;  // with max_tokens 0: also save the state
  // With max_tokens 0: tell how likely the prompt's tokens are. Of the last one nothing is computed.
  std::optional<ScoreOptions> score;
  bool report_tokens = false;  // tell the whole text's tokens at the end
  std::vector<std::string> stop;
  std::vector<std::string> preserved;  // special tokens that are part of the answer's text
  SamplingOptions sampling;
  Clock::time_point submitted;
  // Set from any thread; the engine looks at it between steps.
  std::shared_ptr<std::atomic<bool>> cancelled = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace coldstart
