#include "engine/vocabulary_draw.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>

#include "engine/wide.h"

namespace coldstart {

namespace {

// As many candidates are tried before all tokens are looked at once more: enough for nearly every step of a real model.
constexpr size_t kFew = 64;

// Tokens of which a sum is kept, when they are in the order of their ids.
constexpr size_t kChunk = 1024;

// Tokens in the order of their logits are put into so many bins, so many for each unit below the largest logit. In the
// last one are all the others, which together have less than 10^-8 of the probability.
constexpr size_t kBins = 4096;
constexpr float kBinsOfUnit = 128.0f;

size_t BinOf(float logit, float largest) {
  return static_cast<size_t>(std::min((largest - logit) * kBinsOfUnit, static_cast<float>(kBins - 1)));
}

// exp((logit - largest) / temperature) of each; 0 for those below `least`.
COLDSTART_WIDE void Weigh(const float* logits, size_t count, float largest, float least, float temperature,
                          float* out) {
  const float top = largest / temperature;
  for (size_t i = 0; i < count; ++i) {
    // Of `largest` itself, rounding must not make it more than 0.
    const float x = std::min(logits[i] / temperature - top, 0.0f);
    const float weight = Exp(x);
    out[i] = logits[i] >= least ? weight : 0.0f;
  }
}

COLDSTART_WIDE double Sum(const float* values, size_t count) {
  constexpr size_t kLanes = 16;
  float lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += values[i + lane];
  }
  double sum = 0.0;
  for (const float lane : lanes) sum += static_cast<double>(lane);
  for (; i < count; ++i) sum += static_cast<double>(values[i]);
  return sum;
}

double SumOfAll(const std::vector<float>& values) {
  double sum = 0.0;
  for (size_t i = 0; i < values.size(); i += kChunk) sum += Sum(&values[i], std::min(kChunk, values.size() - i));
  return sum;
}

// Below this logit, min-p takes no token.
float LeastLogit(float largest, float min_p) { return min_p > 0.0f ? largest + std::log(min_p) : -INFINITY; }

}  // namespace

llama_token VocabularyDraw::Pick(const float* logits, size_t count, LogitIndex& index, const DrawOptions& options,
                                 double random) {
  const float largest = logits[index.Largest()];
  if (options.top_p >= 1.0f) return ById(logits, count, largest, options, random);

  shares_.resize(count);
  Weigh(logits, count, largest, -INFINITY, 1.0f, shares_.data());
  const double nucleus = static_cast<double>(options.top_p) * SumOfAll(shares_);
  const float least = LeastLogit(largest, options.min_p);
  index.LargestK(kFew, few_);
  double share = 0.0;
  double total = 0.0;
  size_t kept = 0;
  bool enough = false;
  for (const llama_token_data& candidate : few_) {
    float weight = 0.0f;
    Weigh(&candidate.logit, 1, largest, least, options.temperature, &weight);
    enough = weight == 0.0f;  // so have all after it
    if (enough) break;
    few_[kept++].p = weight;
    total += static_cast<double>(weight);
    share += static_cast<double>(shares_[static_cast<size_t>(candidate.id)]);
    enough = share >= nucleus;
    if (enough) break;
  }
  if (!enough && few_.size() == kFew) return ByLogit(logits, count, largest, options, random);
  double left = random * total;
  for (size_t i = 0; i + 1 < kept; ++i) {
    left -= static_cast<double>(few_[i].p);
    if (left <= 0.0) return few_[i].id;
  }
  return few_[kept - 1].id;
}

llama_token VocabularyDraw::ById(const float* logits, size_t count, float largest, const DrawOptions& options,
                                 double random) {
  weights_.resize(count);
  Weigh(logits, count, largest, LeastLogit(largest, options.min_p), options.temperature, weights_.data());
  double left = random * SumOfAll(weights_);
  llama_token last = 0;
  for (size_t begin = 0; begin < count; begin += kChunk) {
    const size_t end = std::min(begin + kChunk, count);
    const double sum = Sum(&weights_[begin], end - begin);
    if (sum == 0.0) continue;
    const bool within = sum >= left;
    // Summed up one by one they may come to a little less: then it is the last one.
    for (size_t i = begin; i < end; ++i) {
      if (weights_[i] == 0.0f) continue;
      last = static_cast<llama_token>(i);
      if (!within) continue;
      left -= static_cast<double>(weights_[i]);
      if (left <= 0.0) return last;
    }
    if (within) return last;
    left -= sum;
  }
  return last;
}

// In the order of the logits, but only those are sorted between which the nucleus ends, and those between which the
// token lies.
llama_token VocabularyDraw::ByLogit(const float* logits, size_t count, float largest, const DrawOptions& options,
                                    double random) {
  weights_.resize(count);
  Weigh(logits, count, largest, -INFINITY, options.temperature, weights_.data());
  share_of_bin_.assign(kBins, 0.0);
  weight_of_bin_.assign(kBins, 0.0);
  for (size_t i = 0; i < count; ++i) {
    const size_t bin = BinOf(logits[i], largest);
    share_of_bin_[bin] += static_cast<double>(shares_[i]);
    weight_of_bin_[bin] += static_cast<double>(weights_[i]);
  }

  const float least = LeastLogit(largest, options.min_p);
  double nucleus =
      static_cast<double>(options.top_p) * std::accumulate(share_of_bin_.begin(), share_of_bin_.end(), 0.0);
  double total = 0.0;
  size_t last_bin = 0;
  const size_t least_bin = std::min(BinOf(least, largest), kBins - 1);
  for (; last_bin < least_bin && share_of_bin_[last_bin] < nucleus; ++last_bin) {
    nucleus -= share_of_bin_[last_bin];
    total += weight_of_bin_[last_bin];
  }
  size_t kept = 0;
  for (const Candidate& candidate : SortedBin(logits, count, largest, last_bin)) {
    if (candidate.logit < least) break;
    total += static_cast<double>(candidate.weight);
    ++kept;
    nucleus -= static_cast<double>(candidate.share);
    if (nucleus <= 0.0) break;
  }
  if (kept == 0) {
    // Min-p, or a low temperature, leaves nothing of this bin; the first one has the largest logit.
    while (weight_of_bin_[--last_bin] == 0.0) continue;
    kept = SortedBin(logits, count, largest, last_bin).size();
  }

  double left = random * total;
  for (size_t bin = 0; bin < last_bin; ++bin) {
    if (weight_of_bin_[bin] > 0.0 && weight_of_bin_[bin] >= left) {
      kept = SortedBin(logits, count, largest, bin).size();
      break;
    }
    left -= weight_of_bin_[bin];
  }
  for (size_t i = 0; i + 1 < kept; ++i) {
    left -= static_cast<double>(candidates_[i].weight);
    if (left <= 0.0) return candidates_[i].id;
  }
  return candidates_[kept - 1].id;
}

// The tokens of a bin that have any weight.
const std::vector<VocabularyDraw::Candidate>& VocabularyDraw::SortedBin(const float* logits, size_t count,
                                                                        float largest, size_t bin) {
  candidates_.clear();
  for (size_t i = 0; i < count; ++i) {
    if (BinOf(logits[i], largest) != bin || weights_[i] == 0.0f) continue;
    candidates_.push_back({static_cast<llama_token>(i), logits[i], shares_[i], weights_[i]});
  }
  std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
  });
  return candidates_;
}

}  // namespace coldstart
