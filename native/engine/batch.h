// A llama_batch that owns its arrays.
#pragma once

#include <vector>

#include "llama.h"

namespace coldstart {

class Batch {
 public:
  void Clear() {
    tokens_.clear();
    positions_.clear();
    sequences_.clear();
    outputs_.clear();
  }

  // `output`: compute logits for this token; they are at the row that size() was before.
  void Add(llama_token token, llama_pos position, llama_seq_id sequence, bool output) {
    tokens_.push_back(token);
    positions_.push_back(position);
    sequences_.push_back(sequence);
    outputs_.push_back(output ? 1 : 0);
  }

  llama_seq_id sequence(int32_t row) const { return sequences_[static_cast<size_t>(row)]; }

  int32_t size() const { return static_cast<int32_t>(tokens_.size()); }

  // Valid until the next Add().
  llama_batch get() {
    // Every token belongs to one sequence.
    sequence_counts_.assign(tokens_.size(), 1);
    sequence_pointers_.clear();
    for (llama_seq_id& sequence : sequences_) sequence_pointers_.push_back(&sequence);
    return {
        size(),         tokens_.data(), nullptr, positions_.data(), sequence_counts_.data(), sequence_pointers_.data(),
        outputs_.data()};
  }

 private:
  std::vector<llama_token> tokens_;
  std::vector<llama_pos> positions_;
  std::vector<llama_seq_id> sequences_;
  std::vector<int8_t> outputs_;
  std::vector<int32_t> sequence_counts_;
  std::vector<llama_seq_id*> sequence_pointers_;
};

}  // namespace coldstart
