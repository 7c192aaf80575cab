// Guesses how texts go on, so that one step can check several tokens at once: tokens that followed the same words
// earlier in the text (lookup), what a smaller model says (draft), or what the model's own heads for tokens further
// ahead say (mtp).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/batch.h"
#include "loading/loaded_model.h"
#include "loading/memory_breakdown.h"

namespace coldstart {

struct SpeculationOptions {
  enum class Type { kNone, kLookup, kDraft, kMtp };
  Type type = Type::kNone;
  uint32_t draft_tokens = 0;     // most tokens of one guess
  uint32_t match = 4;            // kLookup: tokens that must have occurred before, in a row
  ModelOptions model;            // kDraft
  float min_probability = 0.5f;  // kDraft, kMtp: a guess ends before a token less likely than this
};

// The context of the draft model or of the heads, beside one with these options.
ContextOptions OwnContextOptions(const SpeculationOptions& options, const ContextOptions& target);

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
  // sequences; kMtp keeps it and uses its model. Throws what LoadModel and CreateContext do, and kUnsupportedModel when
  // the vocabularies differ.
  Speculator(const SpeculationOptions& options, llama_context* target, const ContextOptions& context,
             const std::function<bool(float)>& on_progress);
  ~Speculator();
  Speculator(const Speculator&) = delete;
  Speculator& operator=(const Speculator&) = delete;

  // Which of these slots to give to a text that begins with `computed`: its place in the list.
  size_t BestSlot(std::span<const int32_t> slots, std::span<const llama_token> computed) const;

  // The slot has another text from now on, of which the target has computed this much already.
  void Start(uint32_t slot, std::span<const llama_token> computed);

  // The text of the slot is done.
  void End(uint32_t slot);

  // Whether Observe() must be called.
  bool observes() const;

  // The target has just computed this batch, whose sequences are numbered by slot here. Those of a slot lie together.
  void Observe(Batch& batch);

  // Of the last guess about the slot's text, `right` tokens were right; it has `length` tokens up to there.
  void Accept(uint32_t slot, uint32_t right, uint32_t length);

  // Fills in the guesses; they may be empty.
  void Guess(std::vector<Text>& texts);

  // Adds what it takes itself.
  void AddMemory(std::vector<DeviceMemory>& memory) const;

  void SetThreads(uint32_t threads);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace coldstart
