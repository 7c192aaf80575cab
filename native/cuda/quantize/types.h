// Types of weights that the kernels read and write, with ggml's numbers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace coldstart::cuda {

enum class WeightType : int32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kBF16 = 30,
};

struct BlockLayout {
  int values;
  size_t bytes;
};

// Of a type that is not listed: no values.
constexpr BlockLayout LayoutOf(WeightType type) {
  switch (type) {
    case WeightType::kF32: return {1, 4};
    case WeightType::kF16: return {1, 2};
    case WeightType::kBF16: return {1, 2};
    case WeightType::kQ4_0: return {32, 18};
    case WeightType::kQ4_1: return {32, 20};
    case WeightType::kQ5_0: return {32, 22};
    case WeightType::kQ5_1: return {32, 24};
    case WeightType::kQ8_0: return {32, 34};
    case WeightType::kIQ4_NL: return {32, 18};
    case WeightType::kQ4_K: return {256, 144};
    case WeightType::kQ5_K: return {256, 176};
    case WeightType::kQ6_K: return {256, 210};
  }
  return {0, 0};
}

constexpr bool IsQuantized(WeightType type) { return LayoutOf(type).values > 1; }
constexpr bool IsFloat(WeightType type) { return LayoutOf(type).values == 1; }

}  // namespace coldstart::cuda
