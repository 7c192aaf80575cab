// IQ4_NL: blocks of 32 values with one scale, whose sixteen steps are not evenly spaced. One thread for each block.
#pragma once

#include "cuda/quantize/fits.cuh"
#include "cuda/quantize/sources.cuh"
#include "cuda/quantize/staging.cuh"

namespace coldstart::cuda {

constexpr int kIq4NlThreads = 128;

// What a step stands for, in units of the scale, and its number.
struct UnevenStep {
  float value;
  int number;
};

// The nearest of the sixteen. The reference compares the distances to the two neighbours; the one in the middle between
// them, which goes to the upper one, is a multiple of a half, and both distances are exact next to it, so that
// comparing with it is the same.
template <bool kNumber>
__device__ __forceinline__ UnevenStep NearestUneven(float scaled) {
  constexpr float kValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  UnevenStep step{kValues[0], 0};
#pragma unroll
  for (int i = 0; i < 15; ++i) {
    const bool above = scaled >= 0.5f * (kValues[i] + kValues[i + 1]);
    step.value = above ? kValues[i + 1] : step.value;
    if (kNumber) step.number = above ? i + 1 : step.number;
  }
  return step;
}

// quantize_row_iq4_nl_impl() as quantize_iq4_nl() calls it without weights: each value's is its square, 15 attempts.
__device__ __forceinline__ float FitUneven(const float (&x)[32]) {
  constexpr int kFirst = -7;
  float largest = 0;
  float magnitude = 0;
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    const bool larger = Magnitude(x[i]) > magnitude;
    magnitude = larger ? Magnitude(x[i]) : magnitude;
    largest = larger ? x[i] : largest;
  }
  if (magnitude < kNextToNothing) return 0;
  float scale = 0;
  float best = 0;
#pragma unroll 1
  for (int attempt = kFirst - 1; attempt <= -kFirst; ++attempt) {
    const float inverse =
        attempt < kFirst ? Divide(1.f, Divide(-largest, -127.f)) : Divide(static_cast<float>(attempt - 127), largest);
    float sum_qx = 0;
    float sum_q2 = 0;
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      const float q = NearestUneven<false>(Multiply(inverse, x[i])).value;
      const float wq = Multiply(Multiply(x[i], x[i]), q);
      sum_qx = Add(sum_qx, Multiply(wq, x[i]));
      sum_q2 = Add(sum_q2, Multiply(wq, q));
    }
    if (attempt < kFirst) {
      scale = sum_q2 > 0 ? Divide(sum_qx, sum_q2) : 0.f;
      best = Multiply(scale, sum_qx);
    } else if (sum_q2 > 0 && Multiply(sum_qx, sum_qx) > Multiply(best, sum_q2)) {
      scale = Divide(sum_qx, sum_q2);
      best = Multiply(scale, sum_qx);
    }
  }
  return scale;
}

// Shared memory: kIq4NlThreads blocks of 18 bytes.
template <typename Source>
__global__ void __launch_bounds__(kIq4NlThreads, 4)
    QuantizeIq4Nl(const void* source, uint8_t* target, int64_t blocks, uint32_t* refusals) {
  constexpr uint32_t kBytes = 18;
  const SharedArray<uint16_t> staged(0);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kIq4NlThreads;
  const int64_t left = blocks - first;
  const uint32_t count = left < kIq4NlThreads ? static_cast<uint32_t>(left) : kIq4NlThreads;
  if (threadIdx.x < count) {
    float x[32];
    LoadValues<Source>(source, first + threadIdx.x, x);
    const bool fits = AllFit(x);
    const float scale = FitUneven(x);
    const uint16_t half = ToHalf(scale);
    if (!fits || !HalfIsFinite(half)) atomicOr(refusals, fits ? kRefusedScale : kRefusedValue);
    const uint32_t at = threadIdx.x * (kBytes / 2);
    staged.store(at, half);
    const float inverse = scale != 0 ? Divide(1.f, scale) : 0.f;
#pragma unroll
    for (int i = 0; i < 16; i += 2) {
      uint32_t bytes = 0;
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const int low = NearestUneven<true>(Multiply(inverse, x[i + k])).number;
        const int high = NearestUneven<true>(Multiply(inverse, x[i + k + 16])).number;
        bytes |= static_cast<uint32_t>(low | (high << 4)) << (8 * k);
      }
      staged.store(at + 1 + static_cast<uint32_t>(i) / 2, static_cast<uint16_t>(bytes));
    }
  }
  __syncthreads();
  StoreStaged(target + first * kBytes, count * kBytes);
}

}  // namespace coldstart::cuda
