#include "engine/scorer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "engine/logit_index.h"
#include "engine/wide.h"

namespace coldstart {

namespace {

constexpr size_t kLanes = 16;
// Of so many, floats are summed; of these sums, doubles.
constexpr size_t kChunk = 1024;
// Log-probabilities that are told reach so far below the largest.
constexpr float kDepth = 16.0f;
constexpr float kSteps = 65535.0f;

COLDSTART_WIDE float SumOfExp(const float* logits, size_t count, float largest) {
  float lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += Exp(logits[i + lane] - largest);
  }
  for (size_t lane = 0; i < count; ++i, ++lane) lanes[lane] += Exp(logits[i] - largest);
  float sum = 0.0f;
  for (const float lane : lanes) sum += lane;
  return sum;
}

// The logarithm of the sum of all exp(logit): what a logit is above its log-probability.
double LogTotal(const float* logits, size_t count, float largest) {
  double sum = 0.0;
  for (size_t i = 0; i < count; i += kChunk) {
    sum += static_cast<double>(SumOfExp(logits + i, std::min(kChunk, count - i), largest));
  }
  return static_cast<double>(largest) + std::log(sum);
}

struct Scale {
  float least;
  float step;
};

COLDSTART_WIDE void Encode(const float* logits, size_t count, float floor, float steps_per_unit, uint16_t* out) {
  for (size_t i = 0; i < count; ++i) {
    const float steps = (logits[i] - floor) * steps_per_unit + 0.5f;
    out[i] = static_cast<uint16_t>(static_cast<int32_t>(std::max(steps, 0.0f)));
  }
}

void EncodeDistribution(const float* logits, size_t count, float largest, double log_total, uint8_t* out) {
  const float lowest = *std::min_element(logits, logits + count);
  const float floor = std::max(lowest, largest - kDepth);
  const float step = (largest - floor) / kSteps;
  const Scale scale{static_cast<float>(static_cast<double>(floor) - log_total), step};
  std::memcpy(out, &scale, sizeof(scale));
  std::vector<uint16_t> steps(count);
  Encode(logits, count, floor, step > 0.0f ? 1.0f / step : 0.0f, steps.data());
  std::memcpy(out + sizeof(scale), steps.data(), count * sizeof(uint16_t));
}

// A token's share of the divergence: its probability by the base times the difference of the log-probabilities. What is
// less likely than e^-16 to the base does not count.
inline float Term(uint16_t steps, float logit, Scale scale, float log_total) {
  const float base = scale.least + scale.step * static_cast<float>(steps);
  const float term = Exp(std::min(base, 0.0f)) * (base - (logit - log_total));
  return base > -kDepth ? term : 0.0f;
}

COLDSTART_WIDE float Divergence(const float* logits, const uint16_t* steps, size_t count, Scale scale,
                                float log_total) {
  float lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane)
      lanes[lane] += Term(steps[i + lane], logits[i + lane], scale, log_total);
  }
  for (size_t lane = 0; i < count; ++i, ++lane) lanes[lane] += Term(steps[i], logits[i], scale, log_total);
  float sum = 0.0f;
  for (const float lane : lanes) sum += lane;
  return sum;
}

float DivergenceFrom(const uint8_t* base, const float* logits, size_t count, double log_total) {
  Scale scale{};
  std::memcpy(&scale, base, sizeof(scale));
  std::vector<uint16_t> steps(count);
  std::memcpy(steps.data(), base + sizeof(scale), count * sizeof(uint16_t));
  double sum = 0.0;
  for (size_t i = 0; i < count; i += kChunk) {
    const size_t length = std::min(kChunk, count - i);
    sum += static_cast<double>(Divergence(logits + i, &steps[i], length, scale, static_cast<float>(log_total)));
  }
  return static_cast<float>(sum);
}

}  // namespace

Scorer::Scorer(ScoreOptions options, std::vector<llama_token> tokens, size_t vocabulary)
    : options_(std::move(options)), tokens_(std::move(tokens)), vocabulary_(vocabulary) {
  const size_t count = tokens_.size() - options_.from;
  const size_t bytes = count * DistributionBytes(vocabulary_);
  if (options_.base != nullptr && options_.base->size() != bytes) {
    throw Error(ErrorCode::kInvalidOption,
                "The distributions to compare with have " + std::to_string(options_.base->size()) + " bytes, and " +
                    std::to_string(count) + " of this vocabulary have " + std::to_string(bytes) + ".",
                "Compare models with the same vocabulary, on the same tokens.");
  }
  scores_.logprobs.resize(count);
  scores_.likeliest.resize(count);
  if (options_.distributions) scores_.distributions.resize(bytes);
  if (options_.base != nullptr) scores_.divergences.resize(count);
}

void Scorer::Take(uint32_t position, const float* logits) {
  try {
    LogitIndex index;
    index.Build(logits, vocabulary_);
    const size_t likeliest = index.Largest();
    const float largest = logits[likeliest];
    const double log_total = LogTotal(logits, vocabulary_, largest);
    const size_t at = position + 1 - options_.from;
    const auto token = static_cast<size_t>(tokens_[position + 1]);
    scores_.logprobs[at] = static_cast<float>(static_cast<double>(logits[token]) - log_total);
    scores_.likeliest[at] = static_cast<llama_token>(likeliest);
    const size_t bytes = DistributionBytes(vocabulary_);
    if (options_.distributions) {
      EncodeDistribution(logits, vocabulary_, largest, log_total, &scores_.distributions[at * bytes]);
    }
    if (options_.base != nullptr) {
      scores_.divergences[at] = DivergenceFrom(&(*options_.base)[at * bytes], logits, vocabulary_, log_total);
    }
  } catch (...) {
    const std::lock_guard lock(mutex_);
    error_ = CurrentError("Scoring");
  }
}

}  // namespace coldstart
