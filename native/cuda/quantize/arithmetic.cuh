// The arithmetic of ggml's reference quantizers (ggml-quants.c): F32, each operation rounded to nearest on its own. A
// compiler that made one instruction of a product and a sum would choose other numbers of steps now and then, and so
// other bytes.
#pragma once

#include "cuda/device/platform.cuh"

namespace coldstart::cuda {

#if defined(__CUDA_ARCH__)
__device__ __forceinline__ float Add(float a, float b) { return __fadd_rn(a, b); }
__device__ __forceinline__ float Subtract(float a, float b) { return __fadd_rn(a, -b); }
__device__ __forceinline__ float Multiply(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ float Divide(float a, float b) { return __fdiv_rn(a, b); }
__device__ __forceinline__ float SquareRoot(float a) { return __fsqrt_rn(a); }
#else
// Compiled with -ffp-contract=off where the machine has such instructions.
__device__ inline float Add(float a, float b) { return a + b; }
__device__ inline float Subtract(float a, float b) { return a - b; }
__device__ inline float Multiply(float a, float b) { return a * b; }
__device__ inline float Divide(float a, float b) { return a / b; }
__device__ inline float SquareRoot(float a) { return sqrtf(a); }
#endif

__device__ __forceinline__ uint32_t BitsOf(float value) { return __float_as_uint(value); }
__device__ __forceinline__ float FromBits(uint32_t bits) { return __uint_as_float(bits); }
__device__ __forceinline__ float Magnitude(float value) { return FromBits(BitsOf(value) & 0x7fffffffu); }

__device__ __forceinline__ bool IsInfinite(float value) { return Magnitude(value) > 3.402823466e38f; }

__device__ __forceinline__ float FromHalf(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
__device__ __forceinline__ uint16_t ToHalf(float value) { return __half_as_ushort(__float2half_rn(value)); }
__device__ __forceinline__ bool HalfIsFinite(uint16_t bits) { return (bits & 0x7c00u) != 0x7c00u; }

__device__ __forceinline__ int Bounded(int value, int least, int most) {
  return value < least ? least : (value > most ? most : value);
}

// Added to a F32 of at most 22 bits, it leaves the nearest integer (ties to even) in the lowest bits.
constexpr float kRounder = 12582912.f;  // 1.5 * 2^23

// nearest_int() as compiled for a CPU: also of values beyond 2^22, whose result depends on how the bits lie, and of
// NaN, which can come only of 0 * infinity: the NaN of CPUs for that gives 0.
__device__ __forceinline__ int Nearest(float value) {
  const float rounded = Add(value, kRounder);
  const int steps = static_cast<int>(BitsOf(rounded) & 0x007fffffu) - 0x00400000;
  return rounded == rounded ? steps : 0;
}

// Bounded(Nearest(value), kLeast, kMost) for |value| <= 2^22, as a float: four instructions, none of them slow.
template <int kLeast, int kMost>
__device__ __forceinline__ float NearestWithin(float value) {
  constexpr float kFrom = kRounder + static_cast<float>(kLeast);
  constexpr float kTo = kRounder + static_cast<float>(kMost);
  return Subtract(fminf(fmaxf(Add(value, kRounder), kFrom), kTo), kRounder);
}
constexpr float kNearestLimit = 4194303.f;

// Why a chunk of rows is refused: bits of the status word that all threads share. What was written then is not to be
// used.
enum RefusalBits : uint32_t {
  // A NaN, an infinity, or a magnitude of 2^32 or more, which no scale of a block can hold.
  kRefusedValue = 1,
  // A scale that is not finite as F16.
  kRefusedScale = 2,
};

}  // namespace coldstart::cuda
