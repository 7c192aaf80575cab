// Finds the largest logits without sorting or copying the vocabulary: one pass over all of them notes the largest of
// each block, and only blocks that can hold what is looked for are looked at again.
#pragma once

#include <cstddef>
#include <vector>

#include "llama.h"

namespace coldstart {

// The order of candidates. A lambda and not a function, so that sorting inlines it.
inline constexpr auto kLarger = [](const llama_token_data& a, const llama_token_data& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
};

class LogitIndex {
 public:
  // Looks at all logits. They must stay where they are until the next call.
  // Throws kNumericError when one is NaN or +Inf, or all are -Inf.
  void Build(const float* logits, size_t count);

  // The logit of this token was changed.
  void Update(size_t token);

  // The token with the largest logit; of equal ones the first.
  size_t Largest() const;

  // The `k` largest, largest first, into `out`; of equal ones the first are taken. All of them when there are not as
  // many.
  void LargestK(size_t k, std::vector<llama_token_data>& out);

 private:
  // Where the logits of a block end; not all of them before that are the block's.
  size_t BlockEnd(size_t block) const;

  const float* logits_ = nullptr;
  size_t count_ = 0;
  std::vector<float> maxima_;  // of each block
  std::vector<float> sorted_;  // scratch
};

}  // namespace coldstart
