// Super-blocks of 256 values with a scale for each sub-block: Q4_K, Q5_K (eight of 32) and Q6_K (sixteen of 16). One
// thread for each sub-block searches its scale; the threads of a super-block then agree on what all share.
#pragma once

#include "cuda/quantize/fits.cuh"
#include "cuda/quantize/sources.cuh"
#include "cuda/quantize/staging.cuh"

namespace coldstart::cuda {

constexpr int kSuperBlockThreads = 128;

// The largest of a group of threads; only of values that are not negative.
template <int kGroup>
__device__ __forceinline__ float LargestOfGroup(float value) {
#pragma unroll
  for (int distance = 1; distance < kGroup; distance *= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, distance));
  }
  return value;
}

// The twelve bytes of eight scales and eight minima of six bits: bytes 0-3 have those scales of the first four
// sub-blocks, bytes 4-7 their minima, both with the upper two bits of the last four's in theirs; bytes 8-11 have the
// lower four bits of the last four's.
struct PackedScales {
  uint32_t words[3];
};

// By all eight threads of a super-block, each with those of its own sub-block.
__device__ __forceinline__ PackedScales PackScales(uint32_t scale, uint32_t min) {
  const int first = static_cast<int>(threadIdx.x % 32) & ~7;
  PackedScales packed{{0, 0, 0}};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const uint32_t low = __shfl_sync(0xffffffffu, scale | (min << 8), first + j);
    const uint32_t high = __shfl_sync(0xffffffffu, scale | (min << 8), first + j + 4);
    packed.words[0] |= ((low & 0x3fu) | (((high >> 4) & 3u) << 6)) << (8 * j);
    packed.words[1] |= (((low >> 8) & 0x3fu) | (((high >> 12) & 3u) << 6)) << (8 * j);
    packed.words[2] |= ((high & 0xfu) | (((high >> 8) & 0xfu) << 4)) << (8 * j);
  }
  return packed;
}

__device__ __forceinline__ uint32_t BytesOf(const int* steps) {
  return static_cast<uint32_t>(steps[0]) | (static_cast<uint32_t>(steps[1]) << 8) |
         (static_cast<uint32_t>(steps[2]) << 16) | (static_cast<uint32_t>(steps[3]) << 24);
}

// Q4_K: 2 bytes of scale, 2 of the minima's scale, 12 of scales and minima, 128 of steps. Q5_K: 32 of fifth bits before
// these.
template <typename Source, int kBits>
__global__ void __launch_bounds__(kSuperBlockThreads, 4)
    QuantizeQ4Q5K(const void* source, uint8_t* target, int64_t blocks, uint32_t* refusals) {
  constexpr int kMost = (1 << kBits) - 1;
  constexpr int kVectors = kBits == 4 ? 9 : 11;  // of 16 bytes
  const int64_t block = (static_cast<int64_t>(blockIdx.x) * kSuperBlockThreads + threadIdx.x) / 8;
  const bool real = block < blocks;
  const int j = static_cast<int>(threadIdx.x % 8);
  // Threads without a block do the last one's work again: all lanes take part in shuffles.
  const int64_t from = real ? block : blocks - 1;
  float x[32];
  LoadValues<Source>(source, from * 8 + j, x);
  const bool fits = AllFit(x);

  float sum_squares = 0;
#pragma unroll
  for (int i = 0; i < 32; ++i) sum_squares = Add(sum_squares, Multiply(x[i], x[i]));
  const float mean = SquareRoot(Divide(sum_squares, 32.f));
  const AffineFit fit = kBits == 4 ? FitAffine<kMost, 20>(x, mean, -1.f) : FitAffine<kMost, 15>(x, mean, -0.5f);

  const float max_scale = LargestOfGroup<8>(fit.scale > 0 ? fit.scale : 0.f);
  const float max_min = LargestOfGroup<8>(fit.min > 0 ? fit.min : 0.f);
  const float inverse_scale = max_scale > 0 ? Divide(63.f, max_scale) : 0.f;
  const float inverse_min = max_min > 0 ? Divide(63.f, max_min) : 0.f;
  // Stored in eight bits before they are bounded.
  const uint32_t scale = min(63u, static_cast<uint32_t>(Nearest(Multiply(inverse_scale, fit.scale))) & 0xffu);
  const uint32_t min_step = min(63u, static_cast<uint32_t>(Nearest(Multiply(inverse_min, fit.min))) & 0xffu);
  const uint16_t half_d = ToHalf(Divide(max_scale, 63.f));
  const uint16_t half_min = ToHalf(Divide(max_min, 63.f));
  const bool finite = HalfIsFinite(half_d) && HalfIsFinite(half_min);

  const float d = Multiply(FromHalf(half_d), static_cast<float>(scale));
  const float offset = Multiply(FromHalf(half_min), static_cast<float>(min_step));
  uint32_t words[8];
  uint32_t fifth = 0;
#pragma unroll
  for (int i = 0; i < 32; i += 4) {
    int steps[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      steps[k] =
          d != 0 ? Bounded(Nearest(Divide(Add(x[i + k], offset), d)), 0, kMost) : fit.template Step<kMost>(x[i + k]);
      if (kBits == 5) {
        fifth |= static_cast<uint32_t>(steps[k] >> 4) << (i + k);
        steps[k] &= 0xf;
      }
    }
    words[i / 4] = BytesOf(steps) << (j % 2 == 0 ? 0 : 4);
  }

  // Threads of even sub-blocks have the low nibbles of 32 bytes, the next threads the high ones: each stores a half.
  uint32_t nibbles[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t given = j % 2 == 0 ? words[4 + i] : words[i];
    const uint32_t got = __shfl_xor_sync(0xffffffffu, given, 1);
    nibbles[i] = (j % 2 == 0 ? words[i] : words[4 + i]) | got;
  }
  uint32_t fifth_bytes = 0;
  if (kBits == 5) {
    const int first = static_cast<int>(threadIdx.x % 32) & ~7;
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const uint32_t bits = __shfl_sync(0xffffffffu, fifth, first + k) >> (4 * j);
#pragma unroll
      for (int b = 0; b < 4; ++b) fifth_bytes |= ((bits >> b) & 1u) << (8 * b + k);
    }
  }
  const PackedScales packed = PackScales(scale, min_step);
  if (!real) return;
  if (!fits || !finite) atomicOr(refusals, fits ? kRefusedScale : kRefusedValue);
  uint4* to = reinterpret_cast<uint4*>(target) + block * kVectors;
  if (j == 0)
    to[0] =
        make_uint4(half_d | (static_cast<uint32_t>(half_min) << 16), packed.words[0], packed.words[1], packed.words[2]);
  if (kBits == 5) reinterpret_cast<uint32_t*>(to + 1)[j] = fifth_bytes;
  to[kVectors - 8 + j] = make_uint4(nibbles[0], nibbles[1], nibbles[2], nibbles[3]);
}

// Q6_K: 128 bytes of low nibbles, 64 of two upper bits, 16 scales, the scale of these. Shared memory: eight
// super-blocks.
template <typename Source>
__global__ void __launch_bounds__(kSuperBlockThreads, 4)
    QuantizeQ6K(const void* source, uint8_t* target, int64_t blocks, uint32_t* refusals) {
  constexpr uint32_t kBytes = 210;
  constexpr int kBlocksPerGroup = kSuperBlockThreads / 16;
  const SharedArray<uint16_t> staged(0);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kBlocksPerGroup;
  const int64_t left = blocks - first;
  const int count = left < kBlocksPerGroup ? static_cast<int>(left) : kBlocksPerGroup;
  const int own = static_cast<int>(threadIdx.x / 16);
  const int j = static_cast<int>(threadIdx.x % 16);
  float x[16];
  LoadValues<Source>(source, (first + (own < count ? own : count - 1)) * 16 + j, x);
  const bool fits = AllFit(x);
  const SymmetricFit fit = FitSymmetric<32>(x);

  // The scale of the largest magnitude, the first one of equals.
  float max_scale = fit.scale;
  int from = j;
#pragma unroll
  for (int distance = 1; distance < 16; distance *= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, max_scale, distance);
    const int other_from = __shfl_xor_sync(0xffffffffu, from, distance);
    const bool better =
        Magnitude(other) > Magnitude(max_scale) || (Magnitude(other) == Magnitude(max_scale) && other_from < from);
    max_scale = better ? other : max_scale;
    from = better ? other_from : from;
  }
  const bool empty = Magnitude(max_scale) < kNextToNothing;
  const float inverse = Divide(-128.f, max_scale);
  const uint16_t half_d = empty ? static_cast<uint16_t>(0) : ToHalf(Divide(1.f, inverse));
  const int nearest = Nearest(Multiply(inverse, fit.scale));
  // Stored in eight bits.
  const int scale = empty ? 0 : static_cast<int>(static_cast<int8_t>(nearest < 127 ? nearest : 127));
  const float d = Multiply(FromHalf(half_d), static_cast<float>(scale));

  // Sub-blocks of a half lie in four quarters of 32; the first two have the low nibbles of bytes, the last two the high
  // ones.
  const uint32_t quarter = static_cast<uint32_t>(j % 8) / 2;
  uint32_t low[4];
  uint32_t high[4];
#pragma unroll
  for (int i = 0; i < 16; i += 4) {
    int steps[4];
    int upper[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      int step = d != 0 ? Bounded(Nearest(Divide(x[i + k], d)), -32, 31) + 32 : fit.template Step<32>(x[i + k]);
      step = empty ? 0 : step;
      steps[k] = step & 0xf;
      upper[k] = step >> 4;
    }
    low[i / 4] = BytesOf(steps) << (quarter < 2 ? 0 : 4);
    high[i / 4] = BytesOf(upper) << (2 * quarter);
  }
  // Bytes 0-7 of the sixteen that two threads share are stored by the first of them, bytes 8-15 by the second.
  uint32_t nibbles[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t given = quarter < 2 ? low[2 + i] : low[i];
    const uint32_t got = __shfl_xor_sync(0xffffffffu, given, 4);
    nibbles[i] = (quarter < 2 ? low[i] : low[2 + i]) | got;
  }
  uint32_t upper_bits = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    uint32_t word = high[i] | __shfl_xor_sync(0xffffffffu, high[i], 2);
    word |= __shfl_xor_sync(0xffffffffu, word, 4);
    upper_bits = quarter == static_cast<uint32_t>(i) ? word : upper_bits;
  }
  const uint32_t next_scale = __shfl_xor_sync(0xffffffffu, static_cast<uint32_t>(scale) & 0xffu, 1);

  if (own < count && (!fits || !HalfIsFinite(half_d))) atomicOr(refusals, fits ? kRefusedScale : kRefusedValue);
  const uint32_t at = static_cast<uint32_t>(own) * (kBytes / 2);  // in units of two bytes
  const uint32_t half = static_cast<uint32_t>(j) / 8;
  const uint32_t odd = static_cast<uint32_t>(j) % 2;
  const uint32_t at_low = at + 32 * half + 16 * (quarter % 2) + 8 * odd + 4 * (quarter / 2);
  staged.store(at_low, static_cast<uint16_t>(nibbles[0]));
  staged.store(at_low + 1, static_cast<uint16_t>(nibbles[0] >> 16));
  staged.store(at_low + 2, static_cast<uint16_t>(nibbles[1]));
  staged.store(at_low + 3, static_cast<uint16_t>(nibbles[1] >> 16));
  const uint32_t at_high = at + 64 + 16 * half + 8 * odd + 2 * quarter;
  staged.store(at_high, static_cast<uint16_t>(upper_bits));
  staged.store(at_high + 1, static_cast<uint16_t>(upper_bits >> 16));
  if (odd == 0) {
    staged.store(at + 96 + static_cast<uint32_t>(j) / 2,
                 static_cast<uint16_t>((static_cast<uint32_t>(scale) & 0xffu) | (next_scale << 8)));
  }
  if (j == 0) staged.store(at + 104, half_d);
  __syncthreads();
  StoreStaged(target + first * kBytes, static_cast<uint32_t>(count) * kBytes);
}

}  // namespace coldstart::cuda
