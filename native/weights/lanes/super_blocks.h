// Super-blocks of 256 weights: Q2_K to Q6_K.
#pragma once

#include "weights/lanes/fits.h"
#include "weights/lanes/lanes.h"

namespace {  // NOLINT(build/namespaces_headers): included once by each file, see lanes.h

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

}  // namespace
