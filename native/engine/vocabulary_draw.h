// Draws a token from the whole vocabulary, or from its nucleus (top-p, min-p), without sorting it. llama.cpp's chain
// sorts all tokens when no number of candidates is given, which for a small model takes several times as long as a
// step.
//
// The token is that of llama.cpp's chain for the same random number: candidates are in its order, by their logits after
// top-p, else by their ids.
#pragma once

#include <cstddef>
#include <vector>

#include "engine/logit_index.h"
#include "llama.h"

namespace coldstart {

struct DrawOptions {
  float temperature = 1.0f;  // above 0; applied after the others
  float top_p = 1.0f;        // 1: off
  float min_p = 0.0f;        // 0: off
};

class VocabularyDraw {
 public:
  // `index` is built of these logits. `random` is from 0 to 1, 1 excluded.
  llama_token Pick(const float* logits, size_t count, LogitIndex& index, const DrawOptions& options, double random);

 private:
  struct Candidate {
    llama_token id;
    float logit;
    float share;   // of the model's probability, unscaled
    float weight;  // with the temperature, unscaled
  };

  llama_token ById(const float* logits, size_t count, float largest, const DrawOptions& options, double random);
  llama_token ByLogit(const float* logits, size_t count, float largest, const DrawOptions& options, double random);
  const std::vector<Candidate>& SortedBin(const float* logits, size_t count, float largest, size_t bin);

  std::vector<llama_token_data> few_;
  std::vector<Candidate> candidates_;
  std::vector<float> shares_;   // of every token
  std::vector<float> weights_;  // likewise
  std::vector<double> share_of_bin_;
  std::vector<double> weight_of_bin_;
};

}  // namespace coldstart
