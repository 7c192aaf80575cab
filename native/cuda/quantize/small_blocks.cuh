// Blocks of 32 values with one scale: Q8_0, Q4_0, Q4_1, Q5_0, Q5_1. Four threads for each block, eight values for each
// thread: so little work that only moving the bytes counts.
#pragma once

#include "cuda/quantize/sources.cuh"
#include "cuda/quantize/staging.cuh"

namespace coldstart::cuda {

constexpr int kSmallBlockThreads = 256;
constexpr int kSmallBlocksPerGroup = kSmallBlockThreads / 4;  // of a thread block

// Of the four threads of a block: the value that is `better` than those of all others, or the first of equal ones,
// which may differ in their signs.
template <typename Better>
__device__ __forceinline__ float AmongFour(float value, Better better) {
  const int lane = static_cast<int>(threadIdx.x % 4);
  int from = lane;
#pragma unroll
  for (int distance = 1; distance < 4; distance *= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, value, distance);
    const int other_from = __shfl_xor_sync(0xffffffffu, from, distance);
    if (better(other, value) || (!better(value, other) && other_from < from)) {
      value = other;
      from = other_from;
    }
  }
  return value;
}

struct LessThan {
  __device__ bool operator()(float a, float b) const { return a < b; }
};
struct MoreThan {
  __device__ bool operator()(float a, float b) const { return a > b; }
};
struct LargerThan {
  __device__ bool operator()(float a, float b) const { return Magnitude(a) > Magnitude(b); }
};

// Of the values of a block, of which each of four threads has eight in order.
template <typename Better>
__device__ __forceinline__ float FirstOfAll(const float (&x)[8], Better better) {
  float found = x[0];
#pragma unroll
  for (int i = 1; i < 8; ++i) found = better(x[i], found) ? x[i] : found;
  return AmongFour(found, better);
}

__device__ __forceinline__ float LargestMagnitude(const float (&x)[8]) {
  uint32_t largest = 0;  // as bits, which order magnitudes as values do
#pragma unroll
  for (int i = 0; i < 8; ++i) largest = max(largest, BitsOf(x[i]) & 0x7fffffffu);
#pragma unroll
  for (int distance = 1; distance < 4; distance *= 2) {
    largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
  }
  return FromBits(largest);
}

__device__ __forceinline__ float InverseOrZero(float d) { return d != 0 ? Divide(1.f, d) : 0.f; }

// What a value is multiplied with, and what is added before the rest is cut off. Where the scale is so small that its
// inverse is infinite, CPUs make 0 of what comes of that: so does this.
struct Steps {
  float factor;
  float half;
  __device__ static Steps Of(float d, float half) {
    const float inverse = InverseOrZero(d);
    return IsInfinite(inverse) ? Steps{0.f, 0.f} : Steps{inverse, half};
  }
  // Not negative: no value is further from the one that stands for 0 than the scale was made for.
  template <int kMost>
  __device__ uint32_t Of(float value) const {
    const int step = static_cast<int>(Add(Multiply(value, factor), half));
    return static_cast<uint32_t>(step < kMost ? step : kMost);
  }
};

// Four nibbles, of 16 bits, to the low halves of four bytes.
__device__ __forceinline__ uint32_t SpreadNibbles(uint32_t nibbles) {
  const uint32_t pairs = (nibbles | (nibbles << 8)) & 0x00ff00ffu;
  return (pairs | (pairs << 4)) & 0x0f0f0f0fu;
}

// Steps of a block as it stores them: the low four bits, low half of the block first, then the fifth ones.
template <int kBits>
__device__ __forceinline__ void StoreSteps(const uint32_t (&steps)[8], const SharedArray<uint16_t>& staged,
                                           uint32_t at) {
  const uint32_t lane = threadIdx.x % 4;
  uint32_t nibbles = 0;  // four bits each, of even bytes, then of odd ones
  uint32_t fifth = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    nibbles |= (kBits == 4 ? steps[i] : steps[i] & 0xfu) << (4 * i);
    if (kBits == 5) fifth |= (steps[i] >> 4) << i;
  }
  // Lane 0 has values 0-7, whose partners 16-23 are lane 2's: lane 0 writes the first four bytes of the two, lane 2 the
  // others.
  const uint32_t others = __shfl_xor_sync(0xffffffffu, nibbles, 2);
  const uint32_t low = lane < 2 ? nibbles : others >> 16;
  const uint32_t high = lane < 2 ? others : nibbles >> 16;
  const uint32_t bytes = SpreadNibbles(low & 0xffffu) | (SpreadNibbles(high & 0xffffu) << 4);
  const uint32_t first = (kBits == 5 ? 2u : 0u) + 4 * (lane % 2) + 2 * (lane / 2);
  staged.store(at + first, static_cast<uint16_t>(bytes));
  staged.store(at + first + 1, static_cast<uint16_t>(bytes >> 16));
  if (kBits == 5) {
    fifth |= __shfl_xor_sync(0xffffffffu, fifth, 1) << 8;  // in even lanes
    if (lane % 2 == 0) staged.store(at + lane / 2, static_cast<uint16_t>(fifth));
  }
}

// Each format says how long a block is, and stores one, given this thread's part of it; `at` is the block's start in
// units of two bytes. Returns whether the scales are finite.

struct FormatQ8_0 {
  static constexpr uint32_t kBytes = 34;
  __device__ static bool Store(const float (&x)[8], const SharedArray<uint16_t>& staged, uint32_t at) {
    const uint32_t lane = threadIdx.x % 4;
    const float d = Divide(LargestMagnitude(x), 127.f);
    const Steps all = Steps::Of(d, 0.49999997f);
    const uint16_t half = ToHalf(d);
    uint32_t bytes[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      // roundf(): half away from zero.
      const float scaled = Multiply(x[i], all.factor);
      const float away = FromBits(BitsOf(all.half) | (BitsOf(scaled) & 0x80000000u));
      const int step = static_cast<int>(Add(scaled, away));
      bytes[i / 4] |= (static_cast<uint32_t>(step) & 0xffu) << (8 * (i % 4));
    }
    if (lane == 0) staged.store(at, half);
    const uint32_t first = at + 1 + 4 * lane;
    staged.store(first, static_cast<uint16_t>(bytes[0]));
    staged.store(first + 1, static_cast<uint16_t>(bytes[0] >> 16));
    staged.store(first + 2, static_cast<uint16_t>(bytes[1]));
    staged.store(first + 3, static_cast<uint16_t>(bytes[1] >> 16));
    return HalfIsFinite(half);
  }
};

// Q4_0, Q5_0: steps around 0.
template <int kBits>
struct FormatAround0 {
  static constexpr uint32_t kBytes = kBits == 4 ? 18 : 22;
  __device__ static bool Store(const float (&x)[8], const SharedArray<uint16_t>& staged, uint32_t at) {
    constexpr int kHalf = 1 << (kBits - 1);
    float most = FirstOfAll(x, LargerThan{});
    most = most == 0 ? 0.f : most;  // not -0
    const float d = Divide(most, static_cast<float>(-kHalf));
    const Steps all = Steps::Of(d, static_cast<float>(kHalf) + 0.5f);
    const uint16_t half = ToHalf(d);
    if (threadIdx.x % 4 == 0) staged.store(at, half);
    uint32_t steps[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) steps[i] = all.Of<2 * kHalf - 1>(x[i]);
    StoreSteps<kBits>(steps, staged, at + 1);
    return HalfIsFinite(half);
  }
};

// Q4_1, Q5_1: steps from the smallest value.
template <int kBits>
struct FormatFromMin {
  static constexpr uint32_t kBytes = kBits == 4 ? 20 : 24;
  __device__ static bool Store(const float (&x)[8], const SharedArray<uint16_t>& staged, uint32_t at) {
    constexpr int kMost = (1 << kBits) - 1;
    const float least = FirstOfAll(x, LessThan{});
    const float most = FirstOfAll(x, MoreThan{});
    const float d = Divide(Subtract(most, least), static_cast<float>(kMost));
    const Steps all = Steps::Of(d, 0.5f);
    const uint16_t half = ToHalf(d);
    const uint16_t half_min = ToHalf(least);
    if (threadIdx.x % 4 == 0) {
      staged.store(at, half);
      staged.store(at + 1, half_min);
    }
    uint32_t steps[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) steps[i] = all.Of<kMost>(Subtract(x[i], least));
    StoreSteps<kBits>(steps, staged, at + 2);
    return HalfIsFinite(half) && HalfIsFinite(half_min);
  }
};

// `blocks` blocks from as many times 32 values. Both pointers are aligned to 16 bytes. Shared memory:
// kSmallBlocksPerGroup blocks.
template <typename Source, typename Format>
__global__ void __launch_bounds__(kSmallBlockThreads)
    QuantizeSmallBlocks(const void* source, uint8_t* target, int64_t blocks, uint32_t* refusals) {
  const SharedArray<uint16_t> staged(0);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kSmallBlocksPerGroup;
  const int64_t left = blocks - first;
  const uint32_t count = left < kSmallBlocksPerGroup ? static_cast<uint32_t>(left) : kSmallBlocksPerGroup;
  const uint32_t own = threadIdx.x / 4;
  // Threads without a block do the last one's work again: all lanes take part in shuffles.
  const uint32_t block = own < count ? own : count - 1;
  float x[8];
  Source::LoadEight(source, (first + block) * 4 + threadIdx.x % 4, x);
  const bool fits = AllFit(x);
  const bool finite = Format::Store(x, staged, own * (Format::kBytes / 2));
  if (!fits || !finite) atomicOr(refusals, fits ? kRefusedScale : kRefusedValue);
  __syncthreads();
  StoreStaged(target + first * Format::kBytes, count * Format::kBytes);
}

}  // namespace coldstart::cuda
