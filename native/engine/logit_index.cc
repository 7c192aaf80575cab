#include "engine/logit_index.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <functional>
#include <string>

#include "base/error.h"
#include "engine/wide.h"

namespace coldstart {

namespace {

// Logits are taken in chunks of kLanes x kRows. A block is one lane of a chunk, every kLanes-th of its logits: so the
// maxima of the blocks of a chunk are the lanes of a few registers, and no register is ever summed up across.
constexpr size_t kLanes = 16;
constexpr size_t kRows = 64;
constexpr size_t kChunk = kLanes * kRows;

constexpr size_t BlockOf(size_t token) { return token / kChunk * kLanes + token % kLanes; }
constexpr size_t FirstOf(size_t block) { return block / kLanes * kChunk + block % kLanes; }

// The maxima of whole chunks, into `maxima`; true when no logit is NaN. This pass over the whole vocabulary is most of
// what choosing a token costs.
COLDSTART_WIDE bool FindMaxima(const float* logits, size_t chunks, float* maxima) {
  constexpr size_t kChains = 4;  // a maximum waits for the one before it: several at a time
  int32_t nan = 0;
  for (size_t chunk = 0; chunk < chunks; ++chunk, logits += kChunk, maxima += kLanes) {
    float largest[kChains][kLanes];
    int32_t unordered[kLanes] = {};
    for (auto& chain : largest) {
      for (float& lane : chain) lane = -INFINITY;
    }
    for (size_t row = 0; row < kRows; row += kChains) {
      for (size_t chain = 0; chain < kChains; ++chain) {
        const float* values = logits + (row + chain) * kLanes;
        for (size_t lane = 0; lane < kLanes; ++lane) {
          largest[chain][lane] = values[lane] > largest[chain][lane] ? values[lane] : largest[chain][lane];
          unordered[lane] |= static_cast<int32_t>(values[lane] != values[lane]);
        }
      }
    }
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float first = std::max(largest[0][lane], largest[1][lane]);
      const float second = std::max(largest[2][lane], largest[3][lane]);
      maxima[lane] = std::max(first, second);
      nan |= unordered[lane];
    }
  }
  return nan == 0;
}

[[noreturn]] void ThrowUnusable(const float* logits, size_t count) {
  const auto bad =
      static_cast<size_t>(std::find_if(logits, logits + count, [](float x) { return !(x <= FLT_MAX); }) - logits);
  const std::string what = bad == count
                               ? "every logit is -Inf"
                               : "logit " + std::to_string(bad) + " is " + (std::isnan(logits[bad]) ? "NaN" : "+Inf");
  throw Error(
      ErrorCode::kNumericError, "The model computed no usable probabilities: " + what + ".",
      "The weights may be damaged (load with checkTensors: true to look for NaN), or the model overflows in this "
      "precision: use another quantization, kvCache type f16 or f32, or flashAttention: false.",
      {{"logit", static_cast<double>(bad)}});
}

}  // namespace

void LogitIndex::Build(const float* logits, size_t count) {
  logits_ = logits;
  count_ = count;
  const size_t chunks = count / kChunk;
  maxima_.assign((chunks + 1) * kLanes, -INFINITY);
  bool usable = FindMaxima(logits, chunks, maxima_.data());
  for (size_t token = chunks * kChunk; token < count; ++token) {
    float& largest = maxima_[BlockOf(token)];
    largest = std::max(largest, logits[token]);
    usable = usable && !std::isnan(logits[token]);
  }
  const float largest = *std::max_element(maxima_.begin(), maxima_.end());
  if (!usable || largest > FLT_MAX || largest == -INFINITY) ThrowUnusable(logits, count);
}

void LogitIndex::Update(size_t token) {
  const size_t block = BlockOf(token);
  float largest = -INFINITY;
  for (size_t i = FirstOf(block); i < BlockEnd(block); i += kLanes) largest = std::max(largest, logits_[i]);
  maxima_[block] = largest;
}

size_t LogitIndex::BlockEnd(size_t block) const { return std::min((block / kLanes + 1) * kChunk, count_); }

size_t LogitIndex::Largest() const {
  const float largest = *std::max_element(maxima_.begin(), maxima_.end());
  size_t first = count_;
  for (size_t block = 0; block < maxima_.size(); ++block) {
    if (maxima_[block] != largest) continue;
    for (size_t i = FirstOf(block); i < std::min(BlockEnd(block), first); i += kLanes) {
      if (logits_[i] == largest) first = i;
    }
  }
  return first;
}

void LogitIndex::LargestK(size_t k, std::vector<llama_token_data>& out) {
  out.clear();
  if (k == 0) return;
  // At least k logits are as large as the k-th largest maximum: what is smaller is not among the k largest.
  float least = -INFINITY;
  if (k < maxima_.size()) {
    sorted_ = maxima_;
    const auto kth = sorted_.begin() + static_cast<std::ptrdiff_t>(k - 1);
    std::nth_element(sorted_.begin(), kth, sorted_.end(), std::greater<>());
    least = *kth;
  }
  for (size_t block = 0; block < maxima_.size(); ++block) {
    if (maxima_[block] < least) continue;
    for (size_t i = FirstOf(block); i < BlockEnd(block); i += kLanes) {
      if (logits_[i] >= least) out.push_back({static_cast<llama_token>(i), logits_[i], 0.0f});
    }
  }
  if (k < out.size()) {
    std::nth_element(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(k), out.end(), kLarger);
    out.resize(k);
  }
  std::sort(out.begin(), out.end(), kLarger);
}

}  // namespace coldstart
