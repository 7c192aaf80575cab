// Blocks of 32 weights: so cheap that moving them to lanes would cost more than the work. One at a time, left to the
// compiler's vectorizer.
#pragma once

#include "weights/lanes/lanes.h"

namespace {  // NOLINT(build/namespaces_headers): included once by each file, see lanes.h

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

inline float Inverse(float d) { return d != 0 ? 1.0f / d : 0.0f; }

inline void PackNibbles(const int32_t* steps, uint8_t* target) {
  for (int i = 0; i < 16; ++i) target[i] = static_cast<uint8_t>((steps[i] & 0xF) | ((steps[i + 16] & 0xF) << 4));
}

inline void PackFifthBits(const int32_t* steps, uint8_t* target) {
  uint32_t bits = 0;
  for (int i = 0; i < 32; ++i) bits |= ((static_cast<uint32_t>(steps[i]) >> 4) & 1u) << i;
  memcpy(target, &bits, sizeof(bits));
}

// (x - from) * factor, rounded down after `half` was added, as far as a number of kBits.
template <int kBits>
inline void PackSteps(const float* x, float from, float factor, float half, uint8_t* low, uint8_t* fifth) {
  constexpr int32_t kMost = (1 << kBits) - 1;
  int32_t steps[32];
  for (int i = 0; i < 32; ++i) {
    const int32_t step = static_cast<int8_t>(static_cast<int32_t>((x[i] - from) * factor + half));
    steps[i] = (step < kMost ? step : kMost) & 0xff;
  }
  PackNibbles(steps, low);
  if (kBits == 5) PackFifthBits(steps, fifth);
}

inline uint8_t* FifthBits(block_q4_0*) { return nullptr; }
inline uint8_t* FifthBits(block_q4_1*) { return nullptr; }
inline uint8_t* FifthBits(block_q5_0* y) { return y->qh; }
inline uint8_t* FifthBits(block_q5_1* y) { return y->qh; }

// Q4_0, Q5_0: steps around 0.
template <int kBits, typename Block>
void QuantizeAround0(const float* x, Block* y) {
  constexpr int kHalf = 1 << (kBits - 1);
  const float magnitude = LargestMagnitude(x);
  const float d = (magnitude > 0 ? FirstOf(x, magnitude) : 0.0f) / -kHalf;
  y->d = ggml_fp32_to_fp16(d);
  PackSteps<kBits>(x, 0, Inverse(d), static_cast<float>(kHalf) + 0.5f, y->qs, FifthBits(y));
}

// Q4_1, Q5_1: steps from the smallest.
template <int kBits, typename Block>
void QuantizeFromMin(const float* x, Block* y) {
  float min = 0;
  float max = 0;
  Range(x, &min, &max);
  const float d = (max - min) / ((1 << kBits) - 1);
  y->d = ggml_fp32_to_fp16(d);
  y->m = ggml_fp32_to_fp16(min);
  PackSteps<kBits>(x, min, Inverse(d), 0.5f, y->qs, FifthBits(y));
}

void QuantizeQ80(const float* x, block_q8_0* y) {
  const float d = LargestMagnitude(x) / 127;
  const float inverse = Inverse(d);
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

}  // namespace
