// Guesses how texts go on, so that one step can check several tokens at once: tokens that followed the same words
// earlier in the text (lookup), or what a smaller model says (draft).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "loading/loaded_model.h"

namespace coldstart {

struct SpeculationOptions {
  enum class Type { kNone, kLookup, kDraft };
  Type type = Type::kNone;
  uint32_t draft_tokens = 0;     // most tokens of one guess
  uint32_t match = 4;            // kLookup: tokens that must have occurred before, in a row
  ModelOptions model;            // kDraft
  float min_probability = 0.5f;  // kDraft: a guess ends before a token less likely than this
};

class Speculator {
 public:
  // One text to guess about. `slot` numbers it, from 0 to the number of sequences.
  struct Text {
    uint32_t slot;
    std::vector<llama_token>* tokens;  // at least one
    uint32_t most;                     // tokens to guess
    std::vector<llama_token> guess;    // the answer
  };

  // Loads the draft model, if there is one. `context` is the target's, with room for `cells` tokens and `parallel`
  // sequences. Throws what LoadModel and CreateContext do, and kUnsupportedModel when the vocabularies differ.
  Speculator(const SpeculationOptions& options, llama_context* target, const ContextOptions& context,
             const std::function<bool(float)>& on_progress);
  ~Speculator();
  Speculator(const Speculator&) = delete;
  Speculator& operator=(const Speculator&) = delete;

  // Fills in the guesses; they may be empty.
  void Guess(std::vector<Text>& texts);

  // Of the draft model; null without one.
  const llama_context* context() const;

  void SetThreads(uint32_t threads);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace coldstart
