// Matrix instructions of one warp: fragments from shared memory (ldmatrix), products of them (mma.sync), and back
// (stmatrix).
//
// All lanes of a warp take part in each of these functions, at the same point of the program. `lane` is threadIdx.x %
// 32 of a warp whose threads are consecutive.
//
// Source: PTX ISA 9.0, "Warp-level matrix instructions".
#pragma once

#include "cuda/device/platform.cuh"
#include "cuda/device/shared.cuh"

namespace coldstart::cuda {

// Loads four 8x8 matrices of 16-bit elements. A matrix is eight rows of 16 bytes each, every row at its own address, a
// multiple of 16: lanes 0-7 give the rows of matrix 0, lanes 8-15 of matrix 1, 16-23 of matrix 2, 24-31 of matrix 3.
// Afterwards registers[i] of a lane has, of matrix i, row lane / 4, columns 2 * (lane % 4) in the low half and the next
// one in the high half.
__device__ void LoadMatrix4(uint32_t (&registers)[4], SharedAddress row);

// Two matrices, whose rows lanes 0-7 and 8-15 give. The addresses of the other lanes are not used.
__device__ void LoadMatrix2(uint32_t (&registers)[2], SharedAddress row);

// The same, each matrix transposed: registers[i] has, of matrix i, column lane / 4, rows 2 * (lane % 4) (low half) and
// the next.
__device__ void LoadMatrix4Transposed(uint32_t (&registers)[4], SharedAddress row);
__device__ void LoadMatrix2Transposed(uint32_t (&registers)[2], SharedAddress row);

// The inverse of LoadMatrix4Transposed (sm_90): stores four 8x8 matrices of 16-bit elements, transposed. Lanes give row
// addresses as for loads; registers[i] of a lane holds element (row 2 * (lane % 4), column lane / 4) of matrix i as it
// is in memory in its low half, and (row 2 * (lane % 4) + 1, column lane / 4) in its high half.
__device__ void StoreMatrix4Transposed(SharedAddress row, const uint32_t (&registers)[4]);
__device__ void StoreMatrix2Transposed(SharedAddress row, const uint32_t (&registers)[2]);

// d += a * b, with d of 16x8 F32 elements, a of 16xK and b of Kx8. With group = lane / 4 and pair = 2 * (lane % 4), the
// elements of a lane are:
//   d[0], d[1]: row group, columns pair and pair + 1; d[2], d[3]: row group + 8, the same columns
//   16-bit types, the lower column (of a) or row (of b) in the low half of a register:
//     a[0]: row group, columns pair, pair + 1; a[1]: row group + 8, the same columns;
//     a[2], a[3]: as a[0], a[1], 8 columns further (only K = 16)
//     b[0]: rows pair, pair + 1, column group; b[1]: 8 rows further (only K = 16)
//   TF32 (K = 8), one F32 a register, of which the lower 13 bits are ignored:
//     a[0]: row group, column lane % 4; a[1]: row group + 8, the same column; a[2], a[3]: as a[0], a[1], 4 columns
//     further b[0]: row lane % 4, column group; b[1]: 4 rows further
// The products are exact; their sum with d is rounded at least as well as in F32 with truncation, in an order that is
// not defined.
__device__ void MultiplyF16K8(float (&d)[4], const uint32_t (&a)[2], uint32_t b);  // sm_75
__device__ void MultiplyF16(float (&d)[4], const uint32_t (&a)[4],
                            const uint32_t (&b)[2]);  // K = 16; on sm_75 two of K = 8
__device__ void MultiplyBf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);  // sm_80, K = 16
__device__ void MultiplyTf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);  // sm_80, K = 8

// A F32 rounded to TF32 (11 significant bits), to nearest and ties away from zero; infinities stay. NaN stays NaN,
// except that one which only its lower 13 bits tell from an infinity becomes one (on an H200). sm_80.
__device__ uint32_t RoundToTf32(uint32_t bits_of_f32);

}  // namespace coldstart::cuda

#if !defined(__CUDACC__)
#include "emulation_mma.h"
#else

namespace coldstart::cuda {

#define COLDSTART_LOAD_MATRIX4(name, suffix)                                                  \
  __device__ inline void name(uint32_t(&r)[4], SharedAddress row) {                           \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4" suffix ".shared.b16 {%0, %1, %2, %3}, [%4];" \
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])                             \
                 : "r"(row)                                                                   \
                 : "memory");                                                                 \
  }
#define COLDSTART_LOAD_MATRIX2(name, suffix)                                          \
  __device__ inline void name(uint32_t(&r)[2], SharedAddress row) {                   \
    asm volatile("ldmatrix.sync.aligned.m8n8.x2" suffix ".shared.b16 {%0, %1}, [%2];" \
                 : "=r"(r[0]), "=r"(r[1])                                             \
                 : "r"(row)                                                           \
                 : "memory");                                                         \
  }
COLDSTART_LOAD_MATRIX4(LoadMatrix4, "")
COLDSTART_LOAD_MATRIX2(LoadMatrix2, "")
COLDSTART_LOAD_MATRIX4(LoadMatrix4Transposed, ".trans")
COLDSTART_LOAD_MATRIX2(LoadMatrix2Transposed, ".trans")
#undef COLDSTART_LOAD_MATRIX4
#undef COLDSTART_LOAD_MATRIX2

__device__ inline void StoreMatrix4Transposed(SharedAddress row, const uint32_t (&r)[4]) {
#if __CUDA_ARCH__ >= 900
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row), "r"(r[0]),
               "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
#endif
}

__device__ inline void StoreMatrix2Transposed(SharedAddress row, const uint32_t (&r)[2]) {
#if __CUDA_ARCH__ >= 900
  asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(row), "r"(r[0]), "r"(r[1])
               : "memory");
#endif
}

__device__ inline void MultiplyF16K8(float (&d)[4], const uint32_t (&a)[2], uint32_t b) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(b));
}

#define COLDSTART_MULTIPLY(name, type)                                                                       \
  __device__ inline void name(float(&d)[4], const uint32_t(&a)[4], const uint32_t(&b)[2]) {                  \
    asm volatile("mma.sync.aligned." type " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                            \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                        \
  }
#if __CUDA_ARCH__ >= 800
COLDSTART_MULTIPLY(MultiplyF16, "m16n8k16.row.col.f32.f16.f16.f32")
COLDSTART_MULTIPLY(MultiplyBf16, "m16n8k16.row.col.f32.bf16.bf16.f32")
COLDSTART_MULTIPLY(MultiplyTf32, "m16n8k8.row.col.f32.tf32.tf32.f32")
#else
__device__ inline void MultiplyF16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const uint32_t first[2] = {a[0], a[1]};
  const uint32_t second[2] = {a[2], a[3]};
  MultiplyF16K8(d, first, b[0]);
  MultiplyF16K8(d, second, b[1]);
}
__device__ inline void MultiplyBf16(float (&)[4], const uint32_t (&)[4], const uint32_t (&)[2]) {}
__device__ inline void MultiplyTf32(float (&)[4], const uint32_t (&)[4], const uint32_t (&)[2]) {}
#endif
#undef COLDSTART_MULTIPLY

__device__ inline uint32_t RoundToTf32(uint32_t bits) {
#if __CUDA_ARCH__ >= 800
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(__uint_as_float(bits)));
#endif
  return bits;
}

}  // namespace coldstart::cuda
#endif
