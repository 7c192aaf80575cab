// Scales that make the error of a block small, found by one thread for each block: the searches of ggml-quants.c,
// operation by operation and in the same order, so that the bits are the same. Three quarters of the instructions of a
// K type are here; they are arranged for the two pipes of F32, and none converts between integers and floats.
#pragma once

#include "cuda/quantize/arithmetic.cuh"

namespace coldstart::cuda {

// A block that starts at `-min` and goes up in steps of `scale`.
struct AffineFit {
  float scale;
  float min;  // negated
  // The numbers of steps are those of the best attempt, which need not be the ones that scale and min would give.
  float inverse;
  float attempt_min;

  template <int kMost>
  __device__ int Step(float value) const {
    return Bounded(Nearest(Multiply(inverse, Subtract(value, attempt_min))), 0, kMost);
  }
};

// Numbers of steps from `min`, as floats. `least` and `most` bound the values.
template <int kMost, int kSize>
__device__ __forceinline__ void AffineSteps(const float (&x)[kSize], float inverse, float min, float least, float most,
                                            float (&steps)[kSize]) {
  // Rounding is monotone: where both ends are within the fast path's range, all between them are.
  const bool fast = Magnitude(Multiply(inverse, Subtract(least, min))) < kNearestLimit &&
                    Magnitude(Multiply(inverse, Subtract(most, min))) < kNearestLimit;
  if (fast) {
#pragma unroll
    for (int i = 0; i < kSize; ++i) steps[i] = NearestWithin<0, kMost>(Multiply(inverse, Subtract(x[i], min)));
  } else {
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      steps[i] = static_cast<float>(Bounded(Nearest(Multiply(inverse, Subtract(x[i], min))), 0, kMost));
    }
  }
}

// make_qkx2_quants() with squared errors. Each value's weight is `mean` plus its magnitude.
template <int kMost, int kAttempts, int kSize>
__device__ __forceinline__ AffineFit FitAffine(const float (&x)[kSize], float mean, float range_min) {
  const auto weight = [mean](float value) { return Add(mean, Magnitude(value)); };
  float least = x[0];
  float most = x[0];
  float sum_w = weight(x[0]);
  float sum_x = Multiply(sum_w, x[0]);
#pragma unroll
  for (int i = 1; i < kSize; ++i) {
    least = x[i] < least ? x[i] : least;
    most = x[i] > most ? x[i] : most;
    const float w = weight(x[i]);
    sum_w = Add(sum_w, w);
    sum_x = Add(sum_x, Multiply(w, x[i]));
  }
  float min = least > 0 ? 0.f : least;
  if (most == min) return {0.f, -min, 0.f, 0.f};
  AffineFit fit{0.f, 0.f, Divide(static_cast<float>(kMost), Subtract(most, min)), min};
  fit.scale = Divide(1.f, fit.inverse);
  float best = 0;
  float steps[kSize];
  AffineSteps<kMost>(x, fit.inverse, min, least, most, steps);
#pragma unroll
  for (int i = 0; i < kSize; ++i) {
    const float difference = Subtract(Add(Multiply(fit.scale, steps[i]), min), x[i]);
    best = Add(best, Multiply(weight(x[i]), Multiply(difference, difference)));
  }
#pragma unroll 1
  for (int attempt = 0; attempt <= kAttempts; ++attempt) {
    const float range = Add(Add(range_min, Multiply(0.1f, static_cast<float>(attempt))), static_cast<float>(kMost));
    const float inverse = Divide(range, Subtract(most, min));
    AffineSteps<kMost>(x, inverse, min, least, most, steps);
    float sum_l = 0;
    float sum_l2 = 0;
    float sum_xl = 0;
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      const float wl = Multiply(weight(x[i]), steps[i]);
      sum_l = Add(sum_l, wl);
      sum_l2 = Add(sum_l2, Multiply(wl, steps[i]));
      sum_xl = Add(sum_xl, Multiply(wl, x[i]));
    }
    const float determinant = Subtract(Multiply(sum_w, sum_l2), Multiply(sum_l, sum_l));
    if (!(determinant > 0)) continue;
    float this_scale = Divide(Subtract(Multiply(sum_w, sum_xl), Multiply(sum_x, sum_l)), determinant);
    float this_min = Divide(Subtract(Multiply(sum_l2, sum_x), Multiply(sum_l, sum_xl)), determinant);
    if (this_min > 0) {
      this_min = 0;
      this_scale = Divide(sum_xl, sum_l2);
    }
    float error = 0;
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      const float difference = Subtract(Add(Multiply(this_scale, steps[i]), this_min), x[i]);
      error = Add(error, Multiply(weight(x[i]), Multiply(difference, difference)));
    }
    if (error < best) {
      best = error;
      fit.inverse = inverse;
      fit.attempt_min = min;
      fit.scale = this_scale;
      min = this_min;
    }
  }
  fit.min = -min;
  return fit;
}

constexpr float kNextToNothing = 1e-15f;  // GROUP_MAX_EPS

// A block around 0 in steps of `scale`.
struct SymmetricFit {
  float scale;
  float inverse;  // of the best attempt
  bool empty;     // all of the block is next to 0: its numbers are 0, not the one that stands for 0

  template <int kMost>
  __device__ int Step(float value) const {
    return empty ? 0 : kMost + Bounded(Nearest(Multiply(inverse, value)), -kMost, kMost - 1);
  }
};

// make_qx_quants() with rmse_type 1 and no weights: each value's is its square.
template <int kMost, int kSize>
__device__ __forceinline__ SymmetricFit FitSymmetric(const float (&x)[kSize]) {
  float largest = 0;
  float magnitude = 0;
#pragma unroll
  for (int i = 0; i < kSize; ++i) {
    const bool larger = Magnitude(x[i]) > magnitude;
    magnitude = larger ? Magnitude(x[i]) : magnitude;
    largest = larger ? x[i] : largest;
  }
  if (magnitude < kNextToNothing) return {0.f, 0.f, true};
  SymmetricFit fit{0.f, Divide(static_cast<float>(-kMost), largest), false};
  float weight[kSize];
  float weighted[kSize];
#pragma unroll
  for (int i = 0; i < kSize; ++i) {
    weight[i] = Multiply(x[i], x[i]);
    weighted[i] = Multiply(weight[i], x[i]);
  }
  float best = 0;
  float inverse = fit.inverse;
#pragma unroll 1
  for (int attempt = -10; attempt <= 9; ++attempt) {
    // The first one is the plain one, and 0 would be that again.
    if (attempt == 0) continue;
    if (attempt != -10) {
      inverse = Divide(-Add(static_cast<float>(kMost), Multiply(0.1f, static_cast<float>(attempt))), largest);
    }
    float sum_lx = 0;
    float sum_l2 = 0;
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      // No value exceeds the largest one: kMost + 1 at most.
      const float l = NearestWithin<-kMost, kMost - 1>(Multiply(inverse, x[i]));
      sum_lx = Add(sum_lx, Multiply(weighted[i], l));
      sum_l2 = Add(sum_l2, Multiply(Multiply(weight[i], l), l));
    }
    if (attempt == -10) {
      fit.scale = sum_l2 != 0 ? Divide(sum_lx, sum_l2) : 0.f;
      best = Multiply(fit.scale, sum_lx);
    } else if (sum_l2 > 0 && Multiply(sum_lx, sum_lx) > Multiply(best, sum_l2)) {
      fit.scale = Divide(sum_lx, sum_l2);
      best = Multiply(fit.scale, sum_lx);
      fit.inverse = inverse;
    }
  }
  return fit;
}

}  // namespace coldstart::cuda
