// How likely a model finds the tokens of a text, from the logits of a step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/error.h"
#include "llama.h"

namespace coldstart {

struct ScoreOptions {
  uint32_t from = 1;           // the first token that is scored; all before it only precede
  bool distributions = false;  // also tell how likely every token of the vocabulary was
  // Distributions that another model of the same vocabulary told, to compare with.
  std::shared_ptr<const std::vector<uint8_t>> base;
};

// One element for each token that is scored.
struct Scores {
  std::vector<float> logprobs;         // natural logarithm of its probability, given all before it
  std::vector<llama_token> likeliest;  // the token that was the most likely
  std::vector<uint8_t> distributions;  // DistributionBytes() each; empty when not asked for
  std::vector<float> divergences;      // KL(base || this) in nats; empty without a base
};

// Of one distribution: log-probabilities of 16 bits each, as llama-perplexity keeps them in its files: the least of
// them and the step between two, as floats, then the number of steps above the least. What is less likely than the
// likeliest by a factor of e^16 is taken for that.
constexpr size_t DistributionBytes(size_t vocabulary) { return 8 + (vocabulary * sizeof(uint16_t) + 3) / 4 * 4; }

class Scorer {
 public:
  // Of the whole text; `options.from` is one of its tokens and not the first. Throws kInvalidOption when the base is of
  // another length.
  Scorer(ScoreOptions options, std::vector<llama_token> tokens, size_t vocabulary);

  // The first position whose logits are needed.
  uint32_t first_row() const { return options_.from - 1; }

  // The logits at a position, which tell about the token after it. For different positions by several threads at a
  // time.
  void Take(uint32_t position, const float* logits);

  // Why a position could not be scored. kNumericError.
  const std::optional<Error>& error() const { return error_; }

  // When all positions are taken, but for the last token's.
  Scores Finish() { return std::move(scores_); }

 private:
  ScoreOptions options_;
  std::vector<llama_token> tokens_;
  size_t vocabulary_;
  Scores scores_;
  std::mutex mutex_;  // guards error_
  std::optional<Error> error_;
};

}  // namespace coldstart
