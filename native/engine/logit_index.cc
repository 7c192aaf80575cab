#include "engine/logit_index.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <functional>
#include <string>

#include "base/error.h"

namespace coldstart {

namespace {

constexpr size_t kBlock = 64;

// Compiled for wider registers as well, chosen when the addon is loaded: this pass over the whole vocabulary is most of
// what choosing a token costs.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define COLDSTART_WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define COLDSTART_WIDE
#endif

// The largest of each kBlock logits; true when none is NaN or +Inf.
COLDSTART_WIDE bool FindBlockMaxima(const float* logits, size_t count, float* maxima) {
  int32_t unusable = 0;
  for (size_t start = 0; start < count; start += kBlock) {
    const size_t end = std::min(start + kBlock, count);
    float largest = -INFINITY;
    for (size_t i = start; i < end; ++i) {
      unusable |= static_cast<int32_t>(!(logits[i] <= FLT_MAX));
      largest = logits[i] > largest ? logits[i] : largest;
    }
    *maxima++ = largest;
  }
  return unusable == 0;
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

// A lambda and not a function, so that sorting inlines it.
constexpr auto kLarger = [](const llama_token_data& a, const llama_token_data& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
};

}  // namespace

size_t LogitIndex::BlockEnd(size_t block) const { return std::min((block + 1) * kBlock, count_); }

void LogitIndex::Build(const float* logits, size_t count) {
  logits_ = logits;
  count_ = count;
  maxima_.resize((count + kBlock - 1) / kBlock);
  const bool usable = FindBlockMaxima(logits, count, maxima_.data());
  if (!usable || logits[Largest()] == -INFINITY) ThrowUnusable(logits, count);
}

void LogitIndex::Update(size_t token) {
  const size_t block = token / kBlock;
  maxima_[block] = *std::max_element(logits_ + block * kBlock, logits_ + BlockEnd(block));
}

size_t LogitIndex::Largest() const {
  const auto block = static_cast<size_t>(std::max_element(maxima_.begin(), maxima_.end()) - maxima_.begin());
  return static_cast<size_t>(std::max_element(logits_ + block * kBlock, logits_ + BlockEnd(block)) - logits_);
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
    for (size_t i = block * kBlock; i < BlockEnd(block); ++i) {
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
