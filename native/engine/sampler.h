// Chooses the next token of one request from its logits.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/logit_index.h"
#include "engine/thinking.h"
#include "engine/vocabulary_draw.h"
#include "llama.h"

namespace coldstart {

// Checked by lib/options before they come here; the defaults are llama.cpp's.
struct SamplingOptions {
  float temperature = 0.8f;      // 0: always the most likely token
  int32_t top_k = 40;            // 0: off
  float top_p = 0.95f;           // 1: off
  float min_p = 0.05f;           // 0: off
  float typical_p = 1.0f;        // 1: off
  float xtc_probability = 0.0f;  // 0: off
  float xtc_threshold = 0.1f;
  float dry_multiplier = 0.0f;  // 0: off
  float dry_base = 1.75f;
  int32_t dry_allowed_length = 2;
  int32_t dry_last_tokens = 0;  // tokens looked back at
  std::vector<std::string> dry_breakers;
  int32_t mirostat = 0;  // version: 0 (off), 1, 2; replaces the truncating samplers
  float mirostat_tau = 5.0f;
  float mirostat_eta = 0.1f;
  float repeat_penalty = 1.0f;     // 1: off
  float frequency_penalty = 0.0f;  // 0: off
  float presence_penalty = 0.0f;   // 0: off
  int32_t penalty_last_tokens = 64;
  std::vector<llama_logit_bias> logit_bias;
  std::string grammar;  // GBNF; empty: none
  // What the prompt ends with and the answer goes on from: "<|im_start|>assistant\n<think>\n".
  std::string answer_beginning;
  bool grammar_from_beginning = false;        // the grammar is about that, too
  bool grammar_lazy = false;                  // it is in force from where one of these matches, and not while thinking
  std::vector<std::string> grammar_triggers;  // regular expressions (ECMAScript)
  ThinkingOptions thinking;
  uint32_t seed = 0;
  int32_t logprobs = -1;  // most likely tokens to report with each token; 0: only the token itself; negative: none
};

struct TokenLogprob {
  llama_token token;
  float logprob;  // natural logarithm, of the model's own distribution, before any option above
};

struct Sample {
  llama_token token;
  float logprob;                  // as above; 0 when not asked for
  std::vector<TokenLogprob> top;  // the most likely tokens, most likely first
};

class Sampler {
 public:
  // Throws kInvalidGrammar.
  Sampler(const llama_vocab* vocab, const SamplingOptions& options);

  // Tells the penalties what the prompt was.
  void AcceptPrompt(const std::vector<llama_token>& prompt);

  // Picks a token from `logits` (one float for each token of the vocabulary, in its order; may be changed) and takes it
  // into account for the next. Throws kNumericError when the logits hold NaN or +Inf, or nothing but -Inf.
  Sample Next(float* logits);

  // Whether the `count` largest logits are enough to pick from, but for rare cases.
  bool CanPickFrom(uint32_t count) const;

  // Like Next(), from the largest logits, when CanPickFrom() them. None in those rare cases, and then nothing has
  // changed: Next() must be called.
  std::optional<Sample> NextOf(const llama_top_logits& largest);

 private:
  using SamplerPtr = std::unique_ptr<llama_sampler, decltype(&llama_sampler_free)>;

  void BuildGrammar();
  void BuildChain();
  void FillCandidates(const float* logits);
  llama_token Pick(const float* logits);
  llama_token Choose(bool sorted);
  bool GrammarAllows(llama_token token);
  bool GrammarApplies() const { return grammar_ != nullptr && !(options_.grammar_lazy && thinking_.active()); }
  std::optional<llama_token> Forced();
  void Accept(llama_token token);
  void AcceptByGrammar(llama_token token);

  const llama_vocab* vocab_;
  SamplingOptions options_;
  size_t vocab_size_;
  SamplerPtr chain_;
  SamplerPtr grammar_;
  Thinking thinking_;
  std::vector<llama_token> closing_;  // of the thinking, yet to be forced; the last one first
  bool greedy_ = false;               // the chain would only pick the largest logit
  int32_t preselect_k_ = 0;           // the chain starts from the k largest logits; 0: from all
  uint32_t undecided_ = 0;            // times in a row that the largest logits were not enough
  std::optional<DrawOptions> draw_;   // instead of the chain
  std::mt19937 random_;               // the draw's; the numbers are those that the chain would have
  VocabularyDraw vocabulary_draw_;
  LogitIndex index_;
  std::vector<llama_token_data> candidates_;
};

}  // namespace coldstart
