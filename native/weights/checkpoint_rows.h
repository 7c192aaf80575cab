// Weights from one number format to another, row by row, with what converters of checkpoints do to them on the way.
//
// Pure: bytes to bytes. What is read from where, and where it goes, is lib/huggingface/write-weights.ts's business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace coldstart {

enum class WeightType { kF32, kF16, kBF16, kF8E4M3, kF8E5M2 };

// "F32", "F16", "BF16", "F8_E4M3" and "F8_E5M2", as safetensors names them.
std::optional<WeightType> ParseWeightType(const std::string& name);
size_t BytesOf(WeightType type);

struct WeightConversion {
  WeightType from;
  WeightType to;  // not an 8-bit one
  size_t columns;
  // Rows of an attention head whose halves are to be interleaved, 0 for none: row j of the first half becomes row 2 j,
  // row j of the second half row 2 j + 1. Hugging Face rotates element j with element j + rows/2, GGUF's "llama" each
  // pair of neighbours.
  size_t interleave = 0;
  // Added to each weight: norms of Gemma are stored less 1.
  float add = 0;
};

enum class WeightFault { kNone, kNotFinite, kOverflow };

struct WeightResult {
  WeightFault fault = WeightFault::kNone;
  size_t row = 0;  // of the source
  size_t column = 0;
};

// Whole rows; with `interleave`, whole heads. `target` must have room for as many rows as `source` has. Stops at the
// first weight that is NaN or infinite, or becomes infinite in the target's format.
WeightResult ConvertWeights(const WeightConversion& how, std::span<const uint8_t> source, std::span<uint8_t> target);

}  // namespace coldstart
