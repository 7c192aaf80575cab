// ggml's quantization (ggml-quants.c), several blocks at a time: each lane of a vector register does to its block what
// ggml's scalar code does, operation by operation and in the same order, so that the bits are the same. Included by one
// file for each instruction set, which defines LANES.
//
// Everything is in an anonymous namespace, and no inline function of another header is called: one compiled here could
// be the copy that the linker keeps for the whole program, and end it on CPUs without these instructions.

#pragma once

#ifndef LANES
#error "LANES must be the number of 32-bit lanes of a register"
#endif

#define GGML_COMMON_DECL_C
#include <immintrin.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "ggml-common.h"
#include "ggml.h"
#include "weights/kernels.h"

namespace {  // NOLINT(build/namespaces_headers): included once by each file, see above

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint8_t Bytes __attribute__((vector_size(LANES)));

constexpr float kGroupMaxEps = 1e-15f;  // GROUP_MAX_EPS

// Element i of every lane's block.
inline Floats At(const float* values, int i) {
  Floats result;
  memcpy(&result, values + static_cast<ptrdiff_t>(i) * LANES, sizeof(result));
  return result;
}
inline void Put(float* values, int i, Floats value) {
  memcpy(values + static_cast<ptrdiff_t>(i) * LANES, &value, sizeof(value));
}
inline Floats Splat(float value) { return value - Floats{}; }
inline Ints Splat(int32_t value) { return value - Ints{}; }
inline Floats ToFloats(Ints value) { return __builtin_convertvector(value, Floats); }
inline Floats Magnitude(Floats value) { return (Floats)((Ints)value & 0x7fffffff); }
inline Floats Select(Ints mask, Floats yes, Floats no) { return mask ? yes : no; }
inline Ints Select(Ints mask, Ints yes, Ints no) { return mask ? yes : no; }
inline Ints Clamp(Ints value, int32_t least, int32_t most) {
  value = value > most ? Splat(most) : value;
  return value < least ? Splat(least) : value;
}
inline bool Any(Ints mask) {
  int32_t any = 0;
  for (int lane = 0; lane < LANES; ++lane) any |= mask[lane];
  return any != 0;
}
// nearest_int()
inline Ints Nearest(Floats value) { return ((Ints)(value + 12582912.f) & 0x007fffff) - 0x00400000; }

inline Floats SquareRoot(Floats value) {
  Floats result;
  for (int lane = 0; lane < LANES; ++lane) result[lane] = __builtin_sqrtf(value[lane]);
  return result;
}

// Rounded to half precision, as the block stores it, and back.
inline Floats ThroughHalf(Floats value, ggml_fp16_t* halves) {
  Floats result;
  for (int lane = 0; lane < LANES; ++lane) {
    halves[lane] = ggml_fp32_to_fp16(value[lane]);
    result[lane] = ggml_fp16_to_fp32(halves[lane]);
  }
  return result;
}

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

// Bytes computed for all lanes, to be handed out to the lanes' blocks.
template <int kCount>
struct ByteTable {
  uint8_t bytes[kCount * LANES];

  void Set(int i, Ints values) {
    const Bytes narrow = __builtin_convertvector(values, Bytes);
    memcpy(bytes + static_cast<ptrdiff_t>(i) * LANES, &narrow, sizeof(narrow));
  }
  void CopyTo(int lane, uint8_t* target) const {
    for (int i = 0; i < kCount; ++i) target[i] = bytes[i * LANES + lane];
  }
};

// What importance makes of a block's values: weights of the squared errors. `spread` is the mean square.
inline void WeighByImportance(const float* values, const float* importance, Floats spread, int size, float* weights) {
  for (int i = 0; i < size; ++i) {
    const Floats x = At(values, i);
    Put(weights, i, At(importance, i) * SquareRoot(spread + x * x));
  }
}

// --- Super-blocks of 256 ---------------------------------------------------------------------------------------------

inline Floats SumOfSquares(const float* values, int size) {
  Floats sum = {};
  for (int i = 0; i < size; ++i) {
    const Floats x = At(values, i);
    sum += x * x;
  }
  return sum;
}

inline Floats Sum(const float* values, int size) {
  Floats sum = {};
  for (int i = 0; i < size; ++i) sum += At(values, i);
  return sum;
}

// The eight scales and minima of 6 bits of Q4_K and Q5_K, in 12 bytes.
inline void PackScales(const uint8_t* scales, const uint8_t* mins, uint8_t* packed) {
  for (int j = 0; j < 8; ++j) {
    const uint8_t s = scales[j];
    const uint8_t m = mins[j];
    if (j < 4) {
      packed[j] = s;
      packed[j + 4] = m;
    } else {
      packed[j + 4] = static_cast<uint8_t>((s & 0xF) | ((m & 0xF) << 4));
      packed[j - 4] = static_cast<uint8_t>(packed[j - 4] | ((s >> 4) << 6));
      packed[j] = static_cast<uint8_t>(packed[j] | ((m >> 4) << 6));
    }
  }
}

inline void UnpackScale(int j, const uint8_t* packed, uint8_t* scale, uint8_t* min) {
  if (j < 4) {
    *scale = packed[j] & 63;
    *min = packed[j + 4] & 63;
  } else {
    *scale = static_cast<uint8_t>((packed[j + 4] & 0xF) | ((packed[j - 4] >> 6) << 4));
    *min = static_cast<uint8_t>((packed[j + 4] >> 4) | ((packed[j] >> 6) << 4));
  }
}

template <int kBits>
struct K45 {
  using Block = block_q4_K;
};
template <>
struct K45<5> {
  using Block = block_q5_K;
};

template <int kBits>
void QuantizeK45(const float* x, const float* importance, int count, typename K45<kBits>::Block* y) {
  constexpr int kMost = (1 << kBits) - 1;
  AffineFit fits[8];
  alignas(sizeof(Floats)) float scales[8 * LANES];
  alignas(sizeof(Floats)) float mins[8 * LANES];
  alignas(sizeof(Floats)) float weights[32 * LANES];
  alignas(sizeof(Floats)) float weight_sums[8 * LANES];
  const Floats spread = importance != nullptr ? 2 * SumOfSquares(x, 256) / 256.f : Floats{};
  for (int j = 0; j < 8; ++j) {
    const float* values = x + static_cast<ptrdiff_t>(32) * j * LANES;
    if (importance != nullptr) {
      WeighByImportance(values, importance + static_cast<ptrdiff_t>(32) * j * LANES, spread, 32, weights);
      Put(weight_sums, j, Sum(weights, 32));
      fits[j] = FitAffine<32, kMost, false>(values, weights, -0.9f, 0.05f, 36);
    } else {
      const Floats mean = SquareRoot(SumOfSquares(values, 32) / 32.f);
      for (int i = 0; i < 32; ++i) Put(weights, i, mean + Magnitude(At(values, i)));
      fits[j] = kBits == 4 ? FitAffine<32, kMost, false>(values, weights, -1.f, 0.1f, 20)
                           : FitAffine<32, kMost, false>(values, weights, -0.5f, 0.1f, 15);
    }
    Put(scales, j, fits[j].scale);
    Put(mins, j, fits[j].min);
  }
  Ints scale_steps[8];
  Ints min_steps[8];
  Floats d;
  Floats dmin;
  if (importance != nullptr) {
    d = FitPositive<8, 63>(scales, weight_sums, scale_steps);
    dmin = FitPositive<8, 63>(mins, weight_sums, min_steps);
    for (int j = 0; j < 8 && kBits == 5; ++j) {
      scale_steps[j] = Clamp(scale_steps[j], 0, 63);
      min_steps[j] = Clamp(min_steps[j], 0, 63);
    }
  } else {
    Floats max_scale = {};
    Floats max_min = {};
    for (int j = 0; j < 8; ++j) {
      max_scale = Select(At(scales, j) > max_scale, At(scales, j), max_scale);
      max_min = Select(At(mins, j) > max_min, At(mins, j), max_min);
    }
    const Floats inverse_scale = Select(max_scale > 0, 63.f / max_scale, Floats{});
    const Floats inverse_min = Select(max_min > 0, 63.f / max_min, Floats{});
    for (int j = 0; j < 8; ++j) {
      scale_steps[j] = Clamp(Nearest(inverse_scale * At(scales, j)) & 0xff, 0, 63);
      min_steps[j] = Clamp(Nearest(inverse_min * At(mins, j)) & 0xff, 0, 63);
    }
    d = max_scale / 63.f;
    dmin = max_min / 63.f;
  }
  ggml_fp16_t d_halves[LANES];
  ggml_fp16_t dmin_halves[LANES];
  d = ThroughHalf(d, d_halves);
  dmin = ThroughHalf(dmin, dmin_halves);
  Ints stored_scales[8];
  Ints stored_mins[8];
  uint8_t packed[LANES][12];
  for (int lane = 0; lane < LANES; ++lane) {
    uint8_t s[8];
    uint8_t m[8];
    for (int j = 0; j < 8; ++j) {
      s[j] = static_cast<uint8_t>(scale_steps[j][lane]);
      m[j] = static_cast<uint8_t>(min_steps[j][lane]);
    }
    PackScales(s, m, packed[lane]);
    for (int j = 0; j < 8; ++j) {
      uint8_t scale = 0;
      uint8_t min = 0;
      UnpackScale(j, packed[lane], &scale, &min);
      stored_scales[j][lane] = scale;
      stored_mins[j][lane] = min;
    }
  }
  ByteTable<128> low;
  ByteTable<32> high;
  Ints high_bits[32] = {};
  for (int j = 0; j < 8; j += 2) {
    Ints first[32];
    for (int half = 0; half < 2; ++half) {
      const Floats step = d * ToFloats(stored_scales[j + half]);
      const Floats offset = dmin * ToFloats(stored_mins[j + half]);
      const Ints none = step == 0;
      const bool any_none = Any(none);
      for (int i = 0; i < 32; ++i) {
        const Floats value = At(x, 32 * (j + half) + i);
        Ints l = Clamp(Nearest((value + offset) / step), 0, kMost);
        if (any_none) l = Select(none, fits[j + half].template Steps<kMost>(value), l);
        if (half == 0) {
          first[i] = l;
        } else {
          if (kBits == 5) high_bits[i] |= (((first[i] >> 4) & 1) << j) | (((l >> 4) & 1) << (j + 1));
          low.Set(16 * j + i, (first[i] & 0xF) | ((l & 0xF) << 4));
        }
      }
    }
  }
  if (kBits == 5) {
    for (int i = 0; i < 32; ++i) high.Set(i, high_bits[i]);
  }
  for (int lane = 0; lane < count; ++lane) {
    y[lane].d = d_halves[lane];
    y[lane].dmin = dmin_halves[lane];
    memcpy(y[lane].scales, packed[lane], sizeof(y[lane].scales));
    low.CopyTo(lane, y[lane].qs);
    if constexpr (kBits == 5) high.CopyTo(lane, y[lane].qh);
  }
}

// Four numbers of two bits to a byte, as Q2_K and Q3_K have them.
inline void PackTwoBits(const Ints* steps, ByteTable<64>& table) {
  for (int j = 0; j < 256; j += 128) {
    for (int i = 0; i < 32; ++i) {
      table.Set(j / 4 + i,
                steps[j + i] | (steps[j + i + 32] << 2) | (steps[j + i + 64] << 4) | (steps[j + i + 96] << 6));
    }
  }
}

void QuantizeQ2K(const float* x, const float* importance, int count, block_q2_K* y) {
  AffineFit fits[16];
  alignas(sizeof(Floats)) float scales[16 * LANES];
  alignas(sizeof(Floats)) float mins[16 * LANES];
  alignas(sizeof(Floats)) float weights[16 * LANES];
  alignas(sizeof(Floats)) float weight_sums[16 * LANES];
  const Floats spread = importance != nullptr ? SumOfSquares(x, 256) / 256.f : Floats{};
  for (int j = 0; j < 16; ++j) {
    const float* values = x + static_cast<ptrdiff_t>(16) * j * LANES;
    if (importance != nullptr) {
      WeighByImportance(values, importance + static_cast<ptrdiff_t>(16) * j * LANES, spread, 16, weights);
      Put(weight_sums, j, Sum(weights, 16));
      fits[j] = FitAffine<16, 3, false>(values, weights, -0.9f, 0.05f, 36);
    } else {
      for (int i = 0; i < 16; ++i) Put(weights, i, Magnitude(At(values, i)));
      fits[j] = FitAffine<16, 3, true>(values, weights, -0.5f, 0.1f, 15);
    }
    Put(scales, j, fits[j].scale);
    Put(mins, j, fits[j].min);
  }
  Ints scale_steps[16];
  Ints min_steps[16];
  Floats d;
  Floats dmin;
  if (importance != nullptr) {
    d = FitPositive<16, 15>(scales, weight_sums, scale_steps);
    dmin = FitPositive<16, 15>(mins, weight_sums, min_steps);
  } else {
    Floats max_scale = {};
    Floats max_min = {};
    for (int j = 0; j < 16; ++j) {
      max_scale = Select(At(scales, j) > max_scale, At(scales, j), max_scale);
      max_min = Select(At(mins, j) > max_min, At(mins, j), max_min);
    }
    const Floats inverse_scale = 15.f / max_scale;
    const Floats inverse_min = 15.f / max_min;
    for (int j = 0; j < 16; ++j) {
      scale_steps[j] = Select(max_scale > 0, Nearest(inverse_scale * At(scales, j)), Ints{});
      min_steps[j] = Select(max_min > 0, Nearest(inverse_min * At(mins, j)), Ints{});
    }
    d = Select(max_scale > 0, max_scale / 15.f, Floats{});
    dmin = Select(max_min > 0, max_min / 15.f, Floats{});
  }
  ggml_fp16_t d_halves[LANES];
  ggml_fp16_t dmin_halves[LANES];
  d = ThroughHalf(d, d_halves);
  dmin = ThroughHalf(dmin, dmin_halves);
  ByteTable<16> packed;
  Ints steps[256];
  for (int j = 0; j < 16; ++j) {
    const Ints both = (scale_steps[j] | (min_steps[j] << 4)) & 0xff;
    packed.Set(j, both);
    const Floats step = d * ToFloats(both & 0xF);
    const Floats offset = dmin * ToFloats(both >> 4);
    const Ints none = step == 0;
    const bool any_none = Any(none);
    for (int i = 0; i < 16; ++i) {
      const Floats value = At(x, 16 * j + i);
      Ints l = Clamp(Nearest((value + offset) / step), 0, 3);
      if (any_none) l = Select(none, fits[j].Steps<3>(value), l);
      steps[16 * j + i] = l;
    }
  }
  ByteTable<64> low;
  PackTwoBits(steps, low);
  for (int lane = 0; lane < count; ++lane) {
    y[lane].d = d_halves[lane];
    y[lane].dmin = dmin_halves[lane];
    packed.CopyTo(lane, y[lane].scales);
    low.CopyTo(lane, y[lane].qs);
  }
}

void QuantizeQ3K(const float* x, const float* importance, int count, block_q3_K* y) {
  alignas(sizeof(Floats)) float scales[16 * LANES];
  alignas(sizeof(Floats)) float weights[16 * LANES];
  alignas(sizeof(Floats)) float weight_sums[16 * LANES];
  Ints steps[256];
  const Floats spread = importance != nullptr ? 2 * SumOfSquares(x, 256) / 256.f : Floats{};
  for (int j = 0; j < 16; ++j) {
    const float* values = x + static_cast<ptrdiff_t>(16) * j * LANES;
    if (importance != nullptr) {
      WeighByImportance(values, importance + static_cast<ptrdiff_t>(16) * j * LANES, spread, 16, weights);
      Put(weight_sums, j, Sum(weights, 16));
      const SymmetricFit fit = FitSymmetric<16, 4>(values, weights);
      Put(scales, j, fit.scale);
      for (int i = 0; i < 16; ++i) steps[16 * j + i] = fit.Steps<4>(At(values, i));
    } else {
      Put(scales, j, FitThreeBits<16, 4>(values, steps + static_cast<ptrdiff_t>(16) * j));
    }
  }
  Ints scale_steps[16];  // from 0
  Floats d;
  if (importance != nullptr) {
    const SymmetricFit fit = FitSymmetric<16, 32>(scales, weight_sums);
    d = fit.scale;
    for (int j = 0; j < 16; ++j) scale_steps[j] = fit.Steps<32>(At(scales, j));
  } else {
    Floats max_scale = {};
    Floats magnitude = {};
    for (int j = 0; j < 16; ++j) {
      const Floats scale = At(scales, j);
      const Ints larger = Magnitude(scale) > magnitude;
      magnitude = Select(larger, Magnitude(scale), magnitude);
      max_scale = Select(larger, scale, max_scale);
    }
    const Floats inverse = -32.f / max_scale;
    for (int j = 0; j < 16; ++j) {
      // Stored in 8 bits before it is bounded.
      const Ints l = (Nearest(inverse * At(scales, j)) << 24) >> 24;
      scale_steps[j] = Select(max_scale != 0, Clamp(l, -32, 31) + 32, Ints{});
    }
    d = Select(max_scale != 0, 1 / inverse, Floats{});
  }
  ggml_fp16_t d_halves[LANES];
  d = ThroughHalf(d, d_halves);
  ByteTable<12> packed;
  for (int j = 0; j < 8; ++j) packed.Set(j, (scale_steps[j] & 0xF) | ((scale_steps[j + 8] & 0xF) << 4));
  for (int j = 0; j < 4; ++j) {
    packed.Set(8 + j, ((scale_steps[j] >> 4) & 3) | (((scale_steps[j + 4] >> 4) & 3) << 2) |
                          (((scale_steps[j + 8] >> 4) & 3) << 4) | (((scale_steps[j + 12] >> 4) & 3) << 6));
  }
  for (int j = 0; j < 16; ++j) {
    const Floats step = d * ToFloats((scale_steps[j] & 0x3f) - 32);
    const Ints none = step == 0;
    for (int i = 0; i < 16; ++i) {
      const Ints l = Clamp(Nearest(At(x, 16 * j + i) / step), -4, 3) + 4;
      steps[16 * j + i] = Select(none, steps[16 * j + i], l);
    }
  }
  ByteTable<32> high;
  for (int i = 0; i < 32; ++i) {
    Ints bits = {};
    for (int j = 0; j < 8; ++j) {
      Ints& step = steps[32 * j + i];
      const Ints large = step > 3;
      bits |= large & (1 << j);
      step -= large & 4;
    }
    high.Set(i, bits);
  }
  ByteTable<64> low;
  PackTwoBits(steps, low);
  for (int lane = 0; lane < count; ++lane) {
    y[lane].d = d_halves[lane];
    packed.CopyTo(lane, y[lane].scales);
    high.CopyTo(lane, y[lane].hmask);
    low.CopyTo(lane, y[lane].qs);
  }
}

void QuantizeQ6K(const float* x, const float* importance, int count, block_q6_K* y) {
  SymmetricFit fits[16];
  Floats max_scale = {};
  Floats magnitude = {};
  for (int j = 0; j < 16; ++j) {
    const ptrdiff_t at = static_cast<ptrdiff_t>(16) * j * LANES;
    fits[j] = FitSymmetric<16, 32>(x + at, importance != nullptr ? importance + at : nullptr);
    const Ints larger = Magnitude(fits[j].scale) > magnitude;
    magnitude = Select(larger, Magnitude(fits[j].scale), magnitude);
    max_scale = Select(larger, fits[j].scale, max_scale);
  }
  const Ints empty = magnitude < kGroupMaxEps;
  const Floats inverse = -128.f / max_scale;
  ggml_fp16_t d_halves[LANES];
  const Floats d = ThroughHalf(Select(empty, Floats{}, 1 / inverse), d_halves);
  ByteTable<16> packed;
  Ints steps[256];
  for (int j = 0; j < 16; ++j) {
    Ints scale = Nearest(inverse * fits[j].scale);
    scale = Select(empty, Ints{}, (Select(scale > 127, Splat(127), scale) << 24) >> 24);
    packed.Set(j, scale);
    const Floats step = d * ToFloats(scale);
    const Ints none = step == 0;
    const bool any_none = Any(none);
    for (int i = 0; i < 16; ++i) {
      const Floats value = At(x, 16 * j + i);
      Ints l = Clamp(Nearest(value / step), -32, 31) + 32;
      if (any_none) l = Select(none, fits[j].Steps<32>(value), l);
      steps[16 * j + i] = Select(empty, Ints{}, l);
    }
  }
  ByteTable<128> low;
  ByteTable<64> high;
  for (int j = 0; j < 2; ++j) {
    const Ints* l = steps + static_cast<ptrdiff_t>(128) * j;
    for (int i = 0; i < 32; ++i) {
      low.Set(64 * j + i, (l[i] & 0xF) | ((l[i + 64] & 0xF) << 4));
      low.Set(64 * j + i + 32, (l[i + 32] & 0xF) | ((l[i + 96] & 0xF) << 4));
      high.Set(32 * j + i, (l[i] >> 4) | ((l[i + 32] >> 4) << 2) | ((l[i + 64] >> 4) << 4) | ((l[i + 96] >> 4) << 6));
    }
  }
  for (int lane = 0; lane < count; ++lane) {
    y[lane].d = d_halves[lane];
    packed.CopyTo(lane, reinterpret_cast<uint8_t*>(y[lane].scales));
    low.CopyTo(lane, y[lane].ql);
    high.CopyTo(lane, y[lane].qh);
  }
}

template <int kSize, typename Block, void (*kQuantize)(const float*, const float*, int, Block*)>
void QuantizeSuperBlocks(const float* values, size_t rows, size_t columns, const float* importance, void* target) {
  const size_t per_row = columns / kSize;
  const size_t blocks = rows * per_row;
  Block* y = static_cast<Block*>(target);
  alignas(sizeof(Floats)) float x[kSize * LANES];
  alignas(sizeof(Floats)) float weights[kSize * LANES];
  for (size_t first = 0; first < blocks; first += LANES) {
    const size_t count = blocks - first < LANES ? blocks - first : LANES;
    for (size_t lane = 0; lane < LANES; ++lane) {
      // What is left over does the last block's work again.
      const size_t block = first + (lane < count ? lane : count - 1);
      const float* source = values + block * kSize;
      for (size_t i = 0; i < kSize; ++i) x[i * LANES + lane] = source[i];
      if (importance == nullptr) continue;
      const float* weight = importance + block % per_row * kSize;
      for (size_t i = 0; i < kSize; ++i) weights[i * LANES + lane] = weight[i];
    }
    kQuantize(x, importance != nullptr ? weights : nullptr, static_cast<int>(count), y + first);
  }
}

// --- Blocks of 32 ----------------------------------------------------------------------------------------------------
// So cheap that moving the values to lanes would cost more than the work: one block at a time, left to the compiler's
// vectorizer.

// The largest magnitude; as integers, of which the largest may be sought in any order.
inline float LargestMagnitude(const float* x) {
  int32_t largest = 0;
  for (int i = 0; i < 32; ++i) {
    int32_t bits;
    memcpy(&bits, x + i, sizeof(bits));
    bits &= 0x7fffffff;
    largest = bits > largest ? bits : largest;
  }
  float result;
  memcpy(&result, &largest, sizeof(result));
  return result;
}

// The first value of that magnitude.
inline float FirstOf(const float* x, float magnitude) {
  for (int i = 0; i < 32; ++i) {
    if (__builtin_fabsf(x[i]) == magnitude) return x[i];
  }
  return 0;
}

inline void Range(const float* x, float* min, float* max) {
  Floats least = {};
  Floats most = {};
  memcpy(&least, x, sizeof(least));
  most = least;
  for (int i = LANES; i < 32; i += LANES) {
    Floats value;
    memcpy(&value, x + i, sizeof(value));
    least = Select(value < least, value, least);
    most = Select(value > most, value, most);
  }
  *min = least[0];
  *max = most[0];
  for (int lane = 1; lane < LANES; ++lane) {
    if (least[lane] < *min) *min = least[lane];
    if (most[lane] > *max) *max = most[lane];
  }
  // Of zeros with different signs the first one counts.
  if (*min == 0) *min = FirstOf(x, 0);
}

inline void Scaled(const float* x, float from, float factor, float half, int32_t* steps) {
  for (int i = 0; i < 32; ++i) steps[i] = static_cast<int8_t>(static_cast<int32_t>((x[i] - from) * factor + half));
}

inline void PackNibbles(const int32_t* steps, uint8_t* target) {
  for (int i = 0; i < 16; ++i) target[i] = static_cast<uint8_t>((steps[i] & 0xF) | ((steps[i + 16] & 0xF) << 4));
}

inline void PackFifthBits(const int32_t* steps, uint8_t* target) {
  uint32_t bits = 0;
  for (int i = 0; i < 32; ++i) bits |= ((static_cast<uint32_t>(steps[i]) >> 4) & 1u) << i;
  memcpy(target, &bits, sizeof(bits));
}

inline void AtMost(int32_t most, int32_t* steps) {
  for (int i = 0; i < 32; ++i) steps[i] = (steps[i] < most ? steps[i] : most) & 0xff;
}

void QuantizeQ40(const float* x, block_q4_0* y) {
  const float magnitude = LargestMagnitude(x);
  const float d = (magnitude > 0 ? FirstOf(x, magnitude) : 0.0f) / -8;
  const float inverse = d != 0 ? 1.0f / d : 0.0f;
  y->d = ggml_fp32_to_fp16(d);
  int32_t steps[32];
  for (int i = 0; i < 32; ++i) steps[i] = static_cast<int8_t>(static_cast<int32_t>(x[i] * inverse + 8.5f));
  AtMost(15, steps);
  PackNibbles(steps, y->qs);
}

void QuantizeQ41(const float* x, block_q4_1* y) {
  float min = 0;
  float max = 0;
  Range(x, &min, &max);
  const float d = (max - min) / 15;
  const float inverse = d != 0 ? 1.0f / d : 0.0f;
  y->d = ggml_fp32_to_fp16(d);
  y->m = ggml_fp32_to_fp16(min);
  int32_t steps[32];
  Scaled(x, min, inverse, 0.5f, steps);
  AtMost(15, steps);
  PackNibbles(steps, y->qs);
}

void QuantizeQ50(const float* x, block_q5_0* y) {
  const float magnitude = LargestMagnitude(x);
  const float d = (magnitude > 0 ? FirstOf(x, magnitude) : 0.0f) / -16;
  const float inverse = d != 0 ? 1.0f / d : 0.0f;
  y->d = ggml_fp32_to_fp16(d);
  int32_t steps[32];
  for (int i = 0; i < 32; ++i) steps[i] = static_cast<int8_t>(static_cast<int32_t>(x[i] * inverse + 16.5f));
  AtMost(31, steps);
  PackNibbles(steps, y->qs);
  PackFifthBits(steps, y->qh);
}

void QuantizeQ51(const float* x, block_q5_1* y) {
  float min = 0;
  float max = 0;
  Range(x, &min, &max);
  const float d = (max - min) / 31;
  const float inverse = d != 0 ? 1.0f / d : 0.0f;
  y->d = ggml_fp32_to_fp16(d);
  y->m = ggml_fp32_to_fp16(min);
  int32_t steps[32];
  Scaled(x, min, inverse, 0.5f, steps);
  PackNibbles(steps, y->qs);
  PackFifthBits(steps, y->qh);
}

void QuantizeQ80(const float* x, block_q8_0* y) {
  const float d = LargestMagnitude(x) / 127;
  const float inverse = d != 0 ? 1.0f / d : 0.0f;
  y->d = ggml_fp32_to_fp16(d);
  for (int i = 0; i < 32; ++i) {
    // roundf(): half away from zero.
    const float scaled = x[i] * inverse;
    y->qs[i] = static_cast<int8_t>(static_cast<int32_t>(scaled + __builtin_copysignf(0.49999997f, scaled)));
  }
}

template <typename Block, void (*kQuantize)(const float*, Block*)>
void QuantizeBlocks(const float* values, size_t rows, size_t columns, const float* /*importance*/, void* target) {
  Block* y = static_cast<Block*>(target);
  const size_t blocks = rows * (columns / 32);
  for (size_t i = 0; i < blocks; ++i) kQuantize(values + 32 * i, y + i);
}

// nullptr: there is none.
inline coldstart::QuantizeKernel KernelFor(int type, bool has_importance) {
  switch (type) {
    case GGML_TYPE_Q2_K: return QuantizeSuperBlocks<256, block_q2_K, QuantizeQ2K>;
    case GGML_TYPE_Q3_K: return QuantizeSuperBlocks<256, block_q3_K, QuantizeQ3K>;
    case GGML_TYPE_Q4_K: return QuantizeSuperBlocks<256, block_q4_K, QuantizeK45<4>>;
    case GGML_TYPE_Q5_K: return QuantizeSuperBlocks<256, block_q5_K, QuantizeK45<5>>;
    case GGML_TYPE_Q6_K: return QuantizeSuperBlocks<256, block_q6_K, QuantizeQ6K>;
    case GGML_TYPE_Q8_0: return QuantizeBlocks<block_q8_0, QuantizeQ80>;  // takes no notice of importance
    default: break;
  }
  if (has_importance) return nullptr;
  switch (type) {
    case GGML_TYPE_Q4_0: return QuantizeBlocks<block_q4_0, QuantizeQ40>;
    case GGML_TYPE_Q4_1: return QuantizeBlocks<block_q4_1, QuantizeQ41>;
    case GGML_TYPE_Q5_0: return QuantizeBlocks<block_q5_0, QuantizeQ50>;
    case GGML_TYPE_Q5_1: return QuantizeBlocks<block_q5_1, QuantizeQ51>;
    default: return nullptr;
  }
}

// --- To F32 ----------------------------------------------------------------------------------------------------------

// F16 of any kind but NaN and infinity, of which there are some if the result is false.
inline bool WidenHalves(const uint16_t* source, float* target, size_t count) {
  int32_t not_finite = 0;
  for (size_t i = 0; i < count; ++i) not_finite |= (source[i] & 0x7c00) == 0x7c00 ? 1 : 0;
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    _mm256_storeu_ps(target + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source + i))));
  }
  for (; i < count; ++i) target[i] = ggml_fp16_to_fp32(source[i]);
  return not_finite == 0;
}

}  // namespace
