// A matrix of GPTQ (AutoGPTQ's and GPTQModel's layout) or AWQ (AutoAWQ's "gemm"): whole numbers of few bits, with a
// scale and a zero for each group of an output's weights. A weight is (code - zero) * scale.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "ggml.h"
#include "weights/checkpoint_rows.h"

namespace coldstart {

struct PackedMatrix {
  enum class Layout {
    kGptq,  // [inputs * bits / 32, outputs] words: the codes of an output follow one another
    kAwq,   // [inputs, outputs / 8] words: of an input, eight outputs in the order 0, 2, 4, 6, 1, 3, 5, 7
  };

  std::string name;  // without ".qweight"
  Layout layout = Layout::kGptq;
  uint32_t bits = 4;
  int64_t outputs = 0;
  int64_t inputs = 0;
  int64_t group_size = 0;
  std::vector<int32_t> groups;  // of each input; empty: by its place
  bool symmetric = false;       // all zeros are in the middle
  bool zeros_less_one = false;  // as they are stored
  WeightType scale_type = WeightType::kF16;
  // Bytes of codes, zeros ([groups, outputs * bits / 32] words) and scales ([groups, outputs]), by position in the
  // tensor.
  using Read = std::function<void(uint64_t position, std::span<uint8_t> target)>;
  Read codes;
  Read zeros;
  Read scales;

  int64_t group_count() const { return (inputs + group_size - 1) / group_size; }
};

// Rows of the matrix, which are outputs: `rows[i]` goes to the i-th place of `target`. As F32, F16 or BF16; or as Q4_0
// or Q8_0, where it is symmetric, or Q4_1, which hold the codes as they are. They should be neighbours: all from the
// least to the largest are read. Throws kInvalidCheckpoint.
void ReadPackedRows(const PackedMatrix& matrix, std::span<const int64_t> rows, ggml_type type, uint8_t* target);

// As many rows are read well at a time: of the codes, some megabytes.
int64_t PackedRowsAtOnce(const PackedMatrix& matrix);

}  // namespace coldstart
