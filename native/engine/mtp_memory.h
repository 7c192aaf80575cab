// What the heads of a model know of which texts: they have a KV cache of their own, which is filled while the model
// computes and cannot be filled later, because it is made of the model's hidden states. Engine's thread only.
//
// The texts at work have the sequences from 0 to `slots`. What they knew before they were given to another text is kept
// in the sequences beyond, which share its cells, for texts that begin alike.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "llama.h"

namespace coldstart {

class MtpMemory {
 public:
  // `memory`: one pool of cells for all sequences.
  MtpMemory(llama_memory_t memory, uint32_t slots);

  // The text of a slot is another from now on, and this much of it is computed already. What is known of that is taken
  // from where it is; when nothing is, the heads see the text from here on only.
  void Start(uint32_t slot, std::span<const llama_token> computed);

  // The heads have seen these tokens, at the end of the slot's text.
  void Append(uint32_t slot, std::span<const llama_token> tokens);

  // Only the first `length` tokens of the slot's text are right. Drops also what was computed beyond them.
  void Cut(uint32_t slot, uint32_t length);

  // The text of the slot is done: it stays until its room is needed.
  void End(uint32_t slot);

  // Makes room: forgets what was used longest ago and is not at work. False when there is nothing more of that.
  bool ForgetOldest();

  // Makes room: the heads see all texts only from here on.
  void ForgetAll();

  uint32_t length(uint32_t slot) const { return static_cast<uint32_t>(sequences_[slot].tokens.size()); }

  // How many of the first of these tokens the slot's text has.
  uint32_t Common(uint32_t slot, std::span<const llama_token> tokens) const;

 private:
  struct Sequence {
    bool at_work = false;
    uint64_t last_used = 0;
    std::vector<llama_token> tokens;
    uint32_t first = 0;  // those before this one were not seen
  };

  bool empty(const Sequence& sequence) const { return sequence.first >= sequence.tokens.size(); }
  void Keep(uint32_t slot);
  void Forget(size_t sequence);

  llama_memory_t memory_;
  uint32_t slots_;
  std::vector<Sequence> sequences_;
  uint64_t clock_ = 0;
};

}  // namespace coldstart
