// IQ4_NL: blocks of 32 values with one scale, whose sixteen steps are not evenly spaced. One thread for each block.
#pragma once

#include "cuda/quantize/fits.cuh"
#include "cuda/quantize/sources.cuh"
#include "cuda/quantize/staging.cuh"

namespace coldstart::cuda {

constexpr int kIq4NlThreads = 128;

// The sixteen steps, in units of the scale. A value belongs to the nearest one. The reference compares the distances to
// its two neighbours; the one in the middle between them, which goes to the upper one, is a multiple of a half, and
// both distances are exact next to it, so that comparing with it is the same.
//
// The middles are at least 11.5 apart. The range is therefore divided into 32 cells of 8.75, of which no end is next to
// a middle, and each lane of a warp keeps what is to be known of one: the middle in it, if there is one, and the steps
// below and above. Two shuffles find it, where comparing with all of them would take thirty instructions.
struct UnevenSteps {
  float middle;
  uint32_t below_above;  // values as F16; numbers of steps when these are sought

  static constexpr float kWidth = 8.75f;

  // The cell of a value from -135 to 135 is in the lowest five bits. At a cell's end either will do.
  __device__ static uint32_t CellOf(float scaled) { return BitsOf(fmaf(scaled, 1.f / kWidth, kRounder + 16.f)) & 31u; }

  // Of this lane's cell.
  __device__ static UnevenSteps Make(bool numbers) {
    constexpr float kValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    const float from = kWidth * (static_cast<float>(threadIdx.x % 32) - 16.5f);
    UnevenSteps cell{FromBits(0x7f800000u), 0};  // no middle
    uint32_t below = 0;
    float below_value = kValues[0];
    float above_value = kValues[0];
#pragma unroll
    for (int i = 0; i < 15; ++i) {
      const float middle = 0.5f * (kValues[i] + kValues[i + 1]);
      if (middle < from) {
        below = static_cast<uint32_t>(i) + 1;
        below_value = kValues[i + 1];
        above_value = kValues[i + 1];
      } else if (middle < from + kWidth) {
        cell.middle = middle;
        above_value = kValues[i + 1];
      }
    }
    const uint32_t above = below + (cell.middle < 200.f ? 1u : 0u);
    cell.below_above =
        numbers ? below | (above << 16) : ToHalf(below_value) | (static_cast<uint32_t>(ToHalf(above_value)) << 16);
    return cell;
  }

  // By all lanes of a warp: the step of a value from -135 to 135.
  __device__ uint32_t Nearest(float scaled) const {
    const auto cell = static_cast<int>(CellOf(scaled));
    const float its_middle = __shfl_sync(0xffffffffu, middle, cell);
    const uint32_t steps = __shfl_sync(0xffffffffu, below_above, cell);
    return scaled >= its_middle ? steps >> 16 : steps & 0xffffu;
  }
};

// quantize_row_iq4_nl_impl() as quantize_iq4_nl() calls it without weights: each value's is its square, 15 attempts.
__device__ __forceinline__ float FitUneven(const float (&x)[32], const UnevenSteps& steps) {
  constexpr int kFirst = -7;
  float largest = 0;
  float magnitude = 0;
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    const bool larger = Magnitude(x[i]) > magnitude;
    magnitude = larger ? Magnitude(x[i]) : magnitude;
    largest = larger ? x[i] : largest;
  }
  // All lanes take part in the search.
  const bool empty = magnitude < kNextToNothing;
  largest = empty ? 1.f : largest;
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
      // No value exceeds the largest one, whose step is from -134 to -120 or 127.
      const float q = FromHalf(static_cast<uint16_t>(steps.Nearest(Multiply(inverse, x[i]))));
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
  return empty ? 0.f : scale;
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
  // Threads without a block do the last one's work again.
  const uint32_t own = threadIdx.x < count ? threadIdx.x : count - 1;
  float x[32];
  LoadValues<Source>(source, first + own, x);
  const bool fits = AllFit(x);
  const float scale = FitUneven(x, UnevenSteps::Make(false));
  const uint16_t half = ToHalf(scale);
  if (!fits || !HalfIsFinite(half)) atomicOr(refusals, fits ? kRefusedScale : kRefusedValue);
  const uint32_t at = threadIdx.x * (kBytes / 2);
  staged.store(at, half);
  const float inverse = scale != 0 ? Divide(1.f, scale) : 0.f;
  const UnevenSteps numbers = UnevenSteps::Make(true);
  // The scale was fitted, so that values may be beyond the last steps.
  const auto nearest = [&](float value) {
    return numbers.Nearest(fminf(fmaxf(Multiply(inverse, value), -130.f), 130.f));
  };
#pragma unroll
  for (int i = 0; i < 16; i += 2) {
    uint32_t bytes = 0;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const uint32_t low = nearest(x[i + k]);
      const uint32_t high = nearest(x[i + k + 16]);
      bytes |= (low | (high << 4)) << (8 * k);
    }
    staged.store(at + 1 + static_cast<uint32_t>(i) / 2, static_cast<uint16_t>(bytes));
  }
  __syncthreads();
  StoreStaged(target + first * kBytes, count * kBytes);
}

}  // namespace coldstart::cuda
