// CUDA's qualifiers, vector types and the few types of its runtime that kernels and launches name.
#pragma once

#include <cstddef>
#include <cstdint>

// Kernels are written for nvcc, which says nothing of narrowing; the rest of our code is not touched by this.
#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunknown-pragmas"
#pragma GCC diagnostic ignored "-Wpedantic"
#endif

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))

#define COLDSTART_VECTORS(type, name)                                                         \
  struct name##1 { type x; };                                                                 \
  struct alignas(2 * sizeof(type)) name##2 { type x, y; };                                    \
  struct name##3 { type x, y, z; };                                                           \
  struct alignas(4 * sizeof(type) < 16 ? 4 * sizeof(type) : 16) name##4 { type x, y, z, w; }; \
  inline name##1 make_##name##1(type x) { return {x}; }                                       \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }                            \
  inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }                 \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
COLDSTART_VECTORS(signed char, char)
COLDSTART_VECTORS(unsigned char, uchar)
COLDSTART_VECTORS(short, short)            // NOLINT(runtime/int)
COLDSTART_VECTORS(unsigned short, ushort)  // NOLINT(runtime/int)
COLDSTART_VECTORS(int, int)
COLDSTART_VECTORS(unsigned int, uint)
COLDSTART_VECTORS(long long, longlong)            // NOLINT(runtime/int)
COLDSTART_VECTORS(unsigned long long, ulonglong)  // NOLINT(runtime/int)
COLDSTART_VECTORS(float, float)
COLDSTART_VECTORS(double, double)
#undef COLDSTART_VECTORS

struct dim3 {
  unsigned int x = 1, y = 1, z = 1;

  constexpr dim3(unsigned int of_x = 1, unsigned int of_y = 1, unsigned int of_z = 1)  // NOLINT(runtime/explicit)
      : x(of_x), y(of_y), z(of_z) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}  // NOLINT(runtime/explicit)
};

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNotSupported = 801
};
using cudaStream_t = void*;
inline const char* cudaGetErrorString(cudaError_t error) { return error == cudaSuccess ? "no error" : "not possible"; }
