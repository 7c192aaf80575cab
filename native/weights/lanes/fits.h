// Scales of blocks that make the error small, and the numbers of steps they go with: the searches of ggml-quants.c.
#pragma once

#include "weights/lanes/lanes.h"

namespace {  // NOLINT(build/namespaces_headers): included once by each file, see lanes.h

// A block that starts at `least` and goes up in steps of `scale`: make_qkx2_quants(), make_qkx3_quants().
struct AffineFit {
  Floats scale;
  Floats min;  // of the block, negated
  // The numbers of steps are those of the best attempt, which need not be the ones that scale and min would give.
  Floats inverse;
  Floats attempt_min;

  template <int kMost>
  Ints Steps(Floats value) const {
    return Clamp(Nearest(inverse * (value - attempt_min)), 0, kMost);
  }
};

template <int kSize, int kMost, bool kMeanAbsolute>
AffineFit FitAffine(const float* values, const float* weights, float range_min, float range_delta, int attempts) {
  Floats min = At(values, 0);
  Floats max = min;
  Floats sum_w = At(weights, 0);
  Floats sum_x = sum_w * min;
  for (int i = 1; i < kSize; ++i) {
    const Floats x = At(values, i);
    const Floats w = At(weights, i);
    min = Select(x < min, x, min);
    max = Select(x > max, x, max);
    sum_w += w;
    sum_x += w * x;
  }
  min = Select(min > 0, Floats{}, min);
  const Ints flat = max == min;
  Floats inverse = static_cast<float>(kMost) / (max - min);
  Floats scale = 1 / inverse;
  Floats best_inverse = inverse;
  Floats best_attempt_min = min;
  Floats best_error = {};
  for (int i = 0; i < kSize; ++i) {
    const Floats x = At(values, i);
    const Floats l = ToFloats(Clamp(Nearest(inverse * (x - min)), 0, kMost));
    const Floats difference = scale * l + min - x;
    best_error += At(weights, i) * (kMeanAbsolute ? Magnitude(difference) : difference * difference);
  }
  alignas(sizeof(Floats)) float steps[kSize * LANES];
  for (int attempt = 0; attempt <= attempts; ++attempt) {
    inverse = (range_min + range_delta * static_cast<float>(attempt) + static_cast<float>(kMost)) / (max - min);
    Floats sum_l = {};
    Floats sum_l2 = {};
    Floats sum_xl = {};
    for (int i = 0; i < kSize; ++i) {
      const Floats x = At(values, i);
      const Floats l = ToFloats(Clamp(Nearest(inverse * (x - min)), 0, kMost));
      Put(steps, i, l);
      const Floats wl = At(weights, i) * l;
      sum_l += wl;
      sum_l2 += wl * l;
      sum_xl += wl * x;
    }
    const Floats determinant = sum_w * sum_l2 - sum_l * sum_l;
    Floats this_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
    Floats this_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
    const Ints above = this_min > 0;
    this_scale = Select(above, sum_xl / sum_l2, this_scale);
    this_min = Select(above, Floats{}, this_min);
    Floats error = {};
    for (int i = 0; i < kSize; ++i) {
      const Floats difference = this_scale * At(steps, i) + this_min - At(values, i);
      error += At(weights, i) * (kMeanAbsolute ? Magnitude(difference) : difference * difference);
    }
    const Ints better = (determinant > 0) & (error < best_error) & ~flat;
    best_error = Select(better, error, best_error);
    best_inverse = Select(better, inverse, best_inverse);
    best_attempt_min = Select(better, min, best_attempt_min);
    scale = Select(better, this_scale, scale);
    min = Select(better, this_min, min);
  }
  return {.scale = Select(flat, Floats{}, scale),
          .min = -min,
          .inverse = Select(flat, Floats{}, best_inverse),
          .attempt_min = Select(flat, Floats{}, best_attempt_min)};
}

// A block around 0 in steps of `scale`: make_qx_quants() with rmse_type 1.
struct SymmetricFit {
  Floats scale;
  Floats inverse;  // of the best attempt
  Ints empty;      // all of the block is next to 0: its numbers are 0, not the one that stands for 0

  template <int kMost>
  Ints Steps(Floats value) const {
    return Select(empty, Ints{}, kMost + Clamp(Nearest(inverse * value), -kMost, kMost - 1));
  }
};

// Without weights, each value's is its square.
template <int kSize, int kMost>
SymmetricFit FitSymmetric(const float* values, const float* weights) {
  Floats max = {};
  Floats magnitude = {};
  for (int i = 0; i < kSize; ++i) {
    const Floats x = At(values, i);
    const Ints larger = Magnitude(x) > magnitude;
    magnitude = Select(larger, Magnitude(x), magnitude);
    max = Select(larger, x, max);
  }
  Floats inverse = static_cast<float>(-kMost) / max;
  Floats best_inverse = inverse;
  Floats scale = {};
  Floats best = {};
  alignas(sizeof(Floats)) float weight[kSize * LANES];
  alignas(sizeof(Floats)) float weighted[kSize * LANES];
  for (int i = 0; i < kSize; ++i) {
    const Floats x = At(values, i);
    const Floats w = weights != nullptr ? At(weights, i) : x * x;
    Put(weight, i, w);
    Put(weighted, i, w * x);
  }
  for (int attempt = -10; attempt <= 9; ++attempt) {
    // The first one is the plain one, and 0 would be that again.
    if (attempt == 0) continue;
    if (attempt != -10) {
      inverse = -(static_cast<float>(kMost) + 0.1f * static_cast<float>(attempt)) / max;
    }
    Floats sum_lx = {};
    Floats sum_l2 = {};
    for (int i = 0; i < kSize; ++i) {
      const Floats l = ToFloats(Clamp(Nearest(inverse * At(values, i)), -kMost, kMost - 1));
      sum_lx += At(weighted, i) * l;
      sum_l2 += At(weight, i) * l * l;
    }
    if (attempt == -10) {
      scale = Select(sum_l2 != 0, sum_lx / sum_l2, Floats{});
      best = scale * sum_lx;
      continue;
    }
    const Ints better = (sum_l2 > 0) & (sum_lx * sum_lx > best * sum_l2);
    const Floats this_scale = sum_lx / sum_l2;
    scale = Select(better, this_scale, scale);
    best = Select(better, this_scale * sum_lx, best);
    best_inverse = Select(better, inverse, best_inverse);
  }
  const Ints empty = magnitude < kGroupMaxEps;
  return {.scale = Select(empty, Floats{}, scale), .inverse = best_inverse, .empty = empty};
}

// make_qp_quants(): numbers of steps, of values that are not negative. `steps` get the numbers modulo 256, as stored.
template <int kSize, int kMost>
Floats FitPositive(const float* values, const float* weights, Ints* steps) {
  Floats max = {};
  for (int i = 0; i < kSize; ++i) {
    const Floats x = At(values, i);
    max = Select(max > x, max, x);
  }
  const Ints empty = max < kGroupMaxEps;
  Floats inverse = static_cast<float>(kMost) / max;
  Floats scale = 1 / inverse;
  Floats best = {};
  for (int i = 0; i < kSize; ++i) {
    const Floats x = At(values, i);
    const Floats difference = x - scale * ToFloats(Nearest(inverse * x) & 0xff);
    best += At(weights, i) * difference * difference;
  }
  for (int attempt = -4; attempt <= 4; ++attempt) {
    if (attempt == 0) continue;
    const Floats this_inverse = (0.1f * static_cast<float>(attempt) + static_cast<float>(kMost)) / max;
    const Floats this_scale = 1 / this_inverse;
    Floats error = {};
    for (int i = 0; i < kSize; ++i) {
      const Floats x = At(values, i);
      Ints l = Nearest(this_inverse * x);
      l = Select(l > kMost, Splat(kMost), l);
      const Floats difference = x - this_scale * ToFloats(l);
      error += At(weights, i) * difference * difference;
    }
    const Ints better = error < best;
    best = Select(better, error, best);
    inverse = Select(better, this_inverse, inverse);
  }
  Floats sum_lx = {};
  Floats sum_l2 = {};
  for (int i = 0; i < kSize; ++i) {
    const Floats x = At(values, i);
    const Floats w = At(weights, i);
    Ints l = Nearest(inverse * x);
    l = Select(l > kMost, Splat(kMost), l);
    steps[i] = l & 0xff;
    sum_lx += w * x * ToFloats(l);
    sum_l2 += w * ToFloats(l) * ToFloats(l);
  }
  for (int round = 0; round < 5; ++round) {
    Ints changed = {};
    for (int i = 0; i < kSize; ++i) {
      const Floats x = At(values, i);
      const Floats w = At(weights, i);
      const Floats l = ToFloats(steps[i]);
      Floats this_lx = sum_lx - w * x * l;
      Floats this_l2 = sum_l2 - w * l * l;
      Ints better = (this_lx > 0) & (this_l2 > 0);
      Ints next = Nearest(x * this_l2 / this_lx);
      next = Select(next > kMost, Splat(kMost), next);
      better &= next != steps[i];
      this_lx += w * x * ToFloats(next);
      this_l2 += w * ToFloats(next) * ToFloats(next);
      better &= this_lx * this_lx * sum_l2 > sum_lx * sum_lx * this_l2;
      steps[i] = Select(better, next & 0xff, steps[i]);
      sum_lx = Select(better, this_lx, sum_lx);
      sum_l2 = Select(better, this_l2, sum_l2);
      changed |= better;
    }
    if (!Any(changed)) break;
  }
  for (int i = 0; i < kSize; ++i) steps[i] = Select(empty, Ints{}, steps[i]);
  return Select(empty | ~(sum_l2 > 0), Floats{}, sum_lx / sum_l2);
}

// make_q3_quants() with do_rmse. `steps` are those of the result, from 0.
template <int kSize, int kMost>
Floats FitThreeBits(const float* values, Ints* steps) {
  Floats max = {};
  Floats magnitude = {};
  for (int i = 0; i < kSize; ++i) {
    const Floats x = At(values, i);
    const Ints larger = Magnitude(x) > magnitude;
    magnitude = Select(larger, Magnitude(x), magnitude);
    max = Select(larger, x, max);
  }
  const Ints empty = magnitude < kGroupMaxEps;
  const Floats inverse = static_cast<float>(-kMost) / max;
  Floats sum_lx = {};
  Floats sum_l2 = {};
  for (int i = 0; i < kSize; ++i) {
    const Floats x = At(values, i);
    const Floats w = x * x;
    steps[i] = Clamp(Nearest(inverse * x), -kMost, kMost - 1);
    const Floats l = ToFloats(steps[i]);
    sum_lx += w * x * l;
    sum_l2 += w * l * l;
  }
  for (int round = 0; round < 5; ++round) {
    Ints changed = {};
    for (int i = 0; i < kSize; ++i) {
      const Floats x = At(values, i);
      const Floats w = x * x;
      const Floats l = ToFloats(steps[i]);
      Floats this_lx = sum_lx - w * x * l;
      Ints better = this_lx > 0;
      Floats this_l2 = sum_l2 - w * l * l;
      const Ints next = Clamp(Nearest(x * this_l2 / this_lx), -kMost, kMost - 1);
      better &= next != steps[i];
      this_lx += w * x * ToFloats(next);
      this_l2 += w * ToFloats(next) * ToFloats(next);
      better &= (this_l2 > 0) & (this_lx * this_lx * sum_l2 > sum_lx * sum_lx * this_l2);
      steps[i] = Select(better, next, steps[i]);
      sum_lx = Select(better, this_lx, sum_lx);
      sum_l2 = Select(better, this_l2, sum_l2);
      changed |= better;
    }
    if (!Any(changed)) break;
  }
  for (int i = 0; i < kSize; ++i) steps[i] = Select(empty, Ints{}, steps[i] + kMost);
  return Select(empty | ~(sum_l2 > 0), Floats{}, sum_lx / sum_l2);
}

}  // namespace
