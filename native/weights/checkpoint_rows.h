// Weights from one number format to another, row by row. Pure: bytes to bytes.
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
const char* NameOf(WeightType type);
size_t BytesOf(WeightType type);

struct WeightConversion {
  WeightType from;
  WeightType to;  // not an 8-bit one
  size_t columns;
  float add = 0;  // to each weight
  // What the weights of each column are multiplied with, before that; empty: with nothing.
  std::span<const float> factors = {};
};

enum class WeightFault { kNone, kNotFinite, kOverflow };

struct WeightResult {
  WeightFault fault = WeightFault::kNone;
  size_t row = 0;  // of the source
  size_t column = 0;
};

// Whole rows. `target` has room for as many rows as `source` has; it may be the source itself, when both have the same
// format. Stops at the first weight that is NaN or infinite, or becomes infinite in the target's format.
WeightResult ConvertWeights(const WeightConversion& how, std::span<const uint8_t> source, uint8_t* target);

}  // namespace coldstart
