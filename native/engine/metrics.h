// What an engine has done since it was loaded: counters and histograms. Pure.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace coldstart {

// Counts values in buckets whose bounds grow by equal factors: `per_octave` of them to each doubling, from 2^lowest on.
template <int lowest, int per_octave, int octaves>
class Histogram {
 public:
  static constexpr int kLowest = lowest;
  static constexpr int kPerOctave = per_octave;

  void Add(double value) {
    const double place = std::ceil((std::log2(value) - lowest) * per_octave);  // of the first bound that is not less
    const bool is_number = place > 0;                                          // else 0, or less than the lowest
    const double last = per_octave * octaves + 1;
    ++counts_[is_number ? static_cast<size_t>(std::min(place, last)) : 0];
    sum_ += value;
  }

  // Of each bucket, the last one without a bound.
  const std::array<uint64_t, per_octave * octaves + 2>& counts() const { return counts_; }
  double sum() const { return sum_; }

 private:
  std::array<uint64_t, per_octave * octaves + 2> counts_{};
  double sum_ = 0;
};

// 0.5 ms to 128 s: a value is known to 4.4 %.
using SecondsHistogram = Histogram<-11, 16, 18>;
using TokensHistogram = Histogram<0, 1, 20>;

struct EngineMetrics {
  // Of requests, in seconds.
  SecondsHistogram time_to_first_token;
  SecondsHistogram inter_token;  // between two tokens of a request
  SecondsHistogram end_to_end;
  SecondsHistogram queue;    // until the prompt is computed
  SecondsHistogram prefill;  // from there to the first token
  SecondsHistogram decode;   // from there to the last one
  // Of those that have ended.
  TokensHistogram prompt_tokens;
  TokensHistogram completion_tokens;

  uint64_t prefilled_tokens = 0;       // of prompts, computed
  uint64_t generated_tokens = 0;       // sampled
  std::array<uint64_t, 5> finished{};  // by FinishReason
  uint64_t failed = 0;                 // for other reasons than the next two
  uint64_t refused = 0;                // because the queue was full
  uint64_t numeric_errors = 0;         // NaN or infinite logits
  uint64_t prefix_cache_queries = 0;   // tokens of prompts that were looked for in the cache
  uint64_t prefix_cache_hits = 0;      // of them, those that were there
  uint64_t preemptions = 0;
  uint64_t guessed_tokens = 0;   // by speculative decoding
  uint64_t accepted_tokens = 0;  // of them, those that were right
  uint64_t embedded_texts = 0;
  uint64_t embedded_tokens = 0;
  uint64_t step_tokens = 0;  // computed in steps, guesses included
  double step_seconds = 0;   // that steps took
};

}  // namespace coldstart
