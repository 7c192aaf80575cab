// Several blocks at a time, one in each lane of a vector register. Each lane does to its block what ggml's scalar code
// (ggml-quants.c) does, operation by operation and in the same order, so that the bits are the same.
//
// Compiled once for each instruction set: kernels_avx2.cc and kernels_avx512.cc define LANES. Everything here is in an
// anonymous namespace, and no inline function of another header is called: one compiled here could be the copy that the
// linker keeps for the whole program, and end it on CPUs without these instructions.
#pragma once

#ifndef LANES
#error "LANES must be the number of 32-bit lanes of a register"
#endif

#define GGML_COMMON_DECL_C
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "ggml-common.h"
#include "ggml.h"

namespace {  // NOLINT(build/namespaces_headers): included once by each file, see lanes.h

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

}  // namespace
