// Batches of llama.cpp that own their arrays.
#pragma once

#include <cstdint>
#include <utility>
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

// Rows of numbers in the place of tokens, of one sequence.
class EmbeddingBatch {
 public:
  // `rows` numbers of `width` each stay with the caller. `positions`: of all rows, dimension by dimension.
  EmbeddingBatch(const float* numbers, size_t width, std::vector<llama_pos> positions, uint32_t rows,
                 llama_seq_id sequence)
      : numbers_(numbers), width_(width), positions_(std::move(positions)), rows_(rows), sequence_(sequence) {}

  // `output`: compute logits for the last row. Valid until the next call.
  llama_batch Part(uint32_t first, uint32_t count, bool output) {
    part_.clear();
    for (size_t at = first; at < positions_.size(); at += rows_) {
      const auto begin = positions_.begin() + static_cast<std::ptrdiff_t>(at);
      part_.insert(part_.end(), begin, begin + count);
    }
    counts_.assign(count, 1);
    pointers_.assign(count, &sequence_);
    outputs_.assign(count, 0);
    outputs_.back() = output ? 1 : 0;
    // llama.cpp does not change them.
    auto* numbers = const_cast<float*>(numbers_ + first * width_);
    return {
        static_cast<int32_t>(count), nullptr, numbers, part_.data(), counts_.data(), pointers_.data(), outputs_.data()};
  }

 private:
  const float* numbers_;
  size_t width_;
  std::vector<llama_pos> positions_;
  uint32_t rows_;
  llama_seq_id sequence_;
  std::vector<llama_pos> part_;
  std::vector<int32_t> counts_;
  std::vector<llama_seq_id*> pointers_;
  std::vector<int8_t> outputs_;
};

}  // namespace coldstart
