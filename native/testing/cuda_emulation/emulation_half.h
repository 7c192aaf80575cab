// CUDA's 16-bit floating-point types, with exact conversions: to nearest, ties to even; NaN becomes 0x7fff, as on the
// device.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "emulation_types.h"  // NOLINT(build/include_subdir)

namespace coldstart::cuda::emulation {

constexpr float HalfBitsToFloat(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = (bits >> 10) & 31;
  const uint32_t mantissa = bits & 1023;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000 | mantissa << 13);
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

constexpr uint16_t FloatToHalfBits(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return 0x7fff;
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);  // 65520 and more
  uint32_t kept = 0, rest = 0, half = 0;
  if (magnitude >= 0x38800000) {  // normal
    kept = (magnitude - 0x38000000) >> 13;
    rest = magnitude & 0x1fff;
    half = 0x1000;
  } else {
    const uint32_t exponent = magnitude >> 23;
    if (exponent < 102) return static_cast<uint16_t>(sign);  // below half of the least
    const uint32_t mantissa = (magnitude & 0x7fffff) | 0x800000;
    const uint32_t shift = 126 - exponent;
    kept = mantissa >> shift;
    rest = mantissa & ((1u << shift) - 1);
    half = 1u << (shift - 1);
  }
  if (rest > half || (rest == half && (kept & 1) != 0)) ++kept;
  return static_cast<uint16_t>(sign | kept);
}

constexpr float BfloatBitsToFloat(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

constexpr uint16_t FloatToBfloatBits(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

}  // namespace coldstart::cuda::emulation

// Arithmetic is by way of F32: its 24 bits are enough that rounding twice is rounding once (of +, -, * and /).
#define COLDSTART_HALF(name, raw, to_float, from_float)                                                  \
  struct raw {                                                                                           \
    uint16_t x;                                                                                          \
  };                                                                                                     \
  struct alignas(2) name {                                                                               \
    uint16_t bits;                                                                                       \
    name() = default;                                                                                    \
    constexpr name(raw from) : bits(from.x) {}                                           /* NOLINT */    \
    constexpr name(float value) : bits(coldstart::cuda::emulation::from_float(value)) {} /* NOLINT */    \
    constexpr name(double value) : name(static_cast<float>(value)) {}                    /* NOLINT */    \
    constexpr explicit name(int value) : name(static_cast<float>(value)) {}                              \
    constexpr float value() const { return coldstart::cuda::emulation::to_float(bits); }                 \
    constexpr operator float() const { return coldstart::cuda::emulation::to_float(bits); } /* NOLINT */ \
    operator raw() const { return {bits}; }                                                 /* NOLINT */ \
    name& operator+=(name o) { return *this = name(value() + o.value()); }                               \
    name& operator-=(name o) { return *this = name(value() - o.value()); }                               \
    name& operator*=(name o) { return *this = name(value() * o.value()); }                               \
    name& operator/=(name o) { return *this = name(value() / o.value()); }                               \
  };                                                                                                     \
  inline name operator+(name a, name b) { return name(a.value() + b.value()); }                          \
  inline name operator-(name a, name b) { return name(a.value() - b.value()); }                          \
  inline name operator*(name a, name b) { return name(a.value() * b.value()); }                          \
  inline name operator/(name a, name b) { return name(a.value() / b.value()); }                          \
  inline name operator-(name a) { return raw{static_cast<uint16_t>(a.bits ^ 0x8000)}; }                  \
  inline bool operator==(name a, name b) { return a.value() == b.value(); }                              \
  inline bool operator!=(name a, name b) { return a.value() != b.value(); }                              \
  inline bool operator<(name a, name b) { return a.value() < b.value(); }                                \
  inline bool operator>(name a, name b) { return a.value() > b.value(); }                                \
  inline bool operator<=(name a, name b) { return a.value() <= b.value(); }                              \
  inline bool operator>=(name a, name b) { return a.value() >= b.value(); }                              \
  struct alignas(4) name##2 {                                                                            \
    name x, y;                                                                                           \
    name##2() = default;                                                                                 \
    constexpr name##2(name of_x, name of_y) : x(of_x), y(of_y) {}                                        \
  };                                                                                                     \
  inline name __hadd(name a, name b) { return a + b; }                                                   \
  inline name __hsub(name a, name b) { return a - b; }                                                   \
  inline name __hmul(name a, name b) { return a * b; }                                                   \
  inline name __hdiv(name a, name b) { return a / b; }                                                   \
  inline name __hneg(name a) { return -a; }                                                              \
  inline name __habs(name a) { return raw{static_cast<uint16_t>(a.bits & 0x7fff)}; }                     \
  inline bool __hisnan(name a) { return std::isnan(a.value()); }                                         \
  inline int __hisinf(name a) { return std::isinf(a.value()) ? (a.value() > 0 ? 1 : -1) : 0; }           \
  inline bool __heq(name a, name b) { return a == b; }                                                   \
  inline bool __hlt(name a, name b) { return a < b; }                                                    \
  inline bool __hgt(name a, name b) { return a > b; }                                                    \
  inline name##2 __hadd2(name##2 a, name##2 b) { return {a.x + b.x, a.y + b.y}; }                        \
  inline name##2 __hsub2(name##2 a, name##2 b) { return {a.x - b.x, a.y - b.y}; }                        \
  inline name##2 __hmul2(name##2 a, name##2 b) { return {a.x * b.x, a.y * b.y}; }

COLDSTART_HALF(__half, __half_raw, HalfBitsToFloat, FloatToHalfBits)
COLDSTART_HALF(__nv_bfloat16, __nv_bfloat16_raw, BfloatBitsToFloat, FloatToBfloatBits)
#undef COLDSTART_HALF

using half = __half;
using half2 = __half2;
using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

inline __half __float2half(float value) { return __half(value); }
inline __half __float2half_rn(float value) { return __half(value); }
inline float __half2float(__half value) { return value; }
inline __half2 __floats2half2_rn(float x, float y) { return {__half(x), __half(y)}; }
inline __half2 __float22half2_rn(float2 v) { return {__half(v.x), __half(v.y)}; }
inline float2 __half22float2(__half2 v) { return {v.x, v.y}; }
inline float __low2float(__half2 v) { return v.x; }
inline float __high2float(__half2 v) { return v.y; }
inline __half __low2half(__half2 v) { return v.x; }
inline __half __high2half(__half2 v) { return v.y; }
inline __half2 __half2half2(__half v) { return {v, v}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 make_half2(__half x, __half y) { return {x, y}; }
inline uint16_t __half_as_ushort(__half value) { return value.bits; }
inline __half __ushort_as_half(uint16_t bits) { return __half_raw{bits}; }

inline __nv_bfloat16 __float2bfloat16(float value) { return __nv_bfloat16(value); }
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return __nv_bfloat16(value); }
inline float __bfloat162float(__nv_bfloat16 value) { return value; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__nv_bfloat16(x), __nv_bfloat16(y)}; }
inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {v.x, v.y}; }
inline __nv_bfloat162 make_bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline uint16_t __bfloat16_as_ushort(__nv_bfloat16 value) { return value.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(uint16_t bits) { return __nv_bfloat16_raw{bits}; }
