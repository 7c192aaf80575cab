// Rows of weights as they come: F32, F16 or BF16. Loaded eight values at a time, all as F32, which holds each of them
// exactly.
#pragma once

#include "cuda/quantize/arithmetic.cuh"

namespace coldstart::cuda {

// Larger than what any block can hold; an infinity or a NaN is larger still, as bits.
constexpr uint32_t kBitsOf2To32 = 0x4f800000u;

struct SourceF32 {
  static constexpr int kBytes = 4;
  // Eight values from element 8 * i on. `source` is aligned to 16 bytes.
  __device__ static void LoadEight(const void* source, int64_t i, float* values) {
    const float4* from = static_cast<const float4*>(source) + 2 * i;
    const float4 a = from[0];
    const float4 b = from[1];
    values[0] = a.x, values[1] = a.y, values[2] = a.z, values[3] = a.w;
    values[4] = b.x, values[5] = b.y, values[6] = b.z, values[7] = b.w;
  }
};

struct SourceF16 {
  static constexpr int kBytes = 2;
  __device__ static void LoadEight(const void* source, int64_t i, float* values) {
    const uint4 pairs = static_cast<const uint4*>(source)[i];
    const uint32_t words[4] = {pairs.x, pairs.y, pairs.z, pairs.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      values[2 * j] = FromHalf(static_cast<uint16_t>(words[j]));
      values[2 * j + 1] = FromHalf(static_cast<uint16_t>(words[j] >> 16));
    }
  }
};

struct SourceBf16 {
  static constexpr int kBytes = 2;
  __device__ static void LoadEight(const void* source, int64_t i, float* values) {
    const uint4 pairs = static_cast<const uint4*>(source)[i];
    const uint32_t words[4] = {pairs.x, pairs.y, pairs.z, pairs.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      values[2 * j] = FromBits(words[j] << 16);
      values[2 * j + 1] = FromBits(words[j] & 0xffff0000u);
    }
  }
};

// kCount values, a multiple of eight, from element kCount * i on.
template <typename Source, int kCount>
__device__ __forceinline__ void LoadValues(const void* source, int64_t i, float (&values)[kCount]) {
#pragma unroll
  for (int j = 0; j < kCount / 8; ++j) Source::LoadEight(source, i * (kCount / 8) + j, values + 8 * j);
}

template <int kCount>
__device__ __forceinline__ bool AllFit(const float (&values)[kCount]) {
  uint32_t largest = 0;
#pragma unroll
  for (int i = 0; i < kCount; ++i) largest = max(largest, BitsOf(values[i]) & 0x7fffffffu);
  return largest < kBitsOf2To32;
}

}  // namespace coldstart::cuda
