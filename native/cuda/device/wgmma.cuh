// Matrix instructions of a warpgroup (wgmma, sm_90a): four warps, the first of which has a number that is a multiple of
// four, multiply two matrices in shared memory.
//
// A product runs asynchronously. The order is: WgmmaFence, any number of products, WgmmaCommit, WgmmaWait; the
// accumulators must not be touched by other than products between. The matrices in shared memory are read by the
// asynchronous proxy (see FenceAsyncProxy) from the product on until the wait for its group returns. All threads of the
// warpgroup call each of these functions together.
//
// Source: PTX ISA 9.0, "Asynchronous warpgroup level matrix instructions".
#pragma once

#include "cuda/device/platform.cuh"
#include "cuda/device/shared.cuh"

namespace coldstart::cuda {

// Where a matrix lies whose rows are slices along k: rows of 128 bytes, one after another, in the 128-byte swizzle of
// bulk copies (bulk_copy.cuh): eight rows are 1024 bytes. `bits` is what the instruction takes; in it, bits 0-13 are
// the address / 16.
struct MatrixDescriptor {
  uint64_t bits;
};

// The matrix whose first row is at `rows`, a multiple of 1024, from byte `offset` of each row on, before swizzling: 0,
// 32, 64 or 96. (The hardware swizzles addresses, not positions, so the offset is merely added: row r, byte b is at
// rows + 128 * r + b with bits 4-6 of that address xored by its bits 7-9.)
__device__ inline MatrixDescriptor DescribeRows(SharedAddress rows, uint32_t offset) {
  const uint64_t start = ((rows + offset) & 0x3ffff) >> 4;
  const uint64_t leading = 1;         // not used with this swizzle
  const uint64_t stride = 1024 >> 4;  // from eight rows to the next eight
  const uint64_t swizzle_128b = 1;
  return MatrixDescriptor{start | leading << 16 | stride << 32 | swizzle_128b << 62};
}

enum class WgmmaType { kF16, kBf16, kTf32 };

// d = a * b^T (+ d, where `accumulate`), with a of 64 rows, b of kN rows, and 32 bytes of each row: 16 elements of F16
// or BF16, 8 of TF32 (F32, of which the lower 13 bits are ignored). d is F32. With warp = the warp's number in the
// warpgroup, group = lane / 4 and pair = 2 * (lane % 4), the elements of a thread are, for each i below kN / 8:
//   d[4 * i + 0], d[4 * i + 1]: row 16 * warp + group, columns 8 * i + pair and 8 * i + pair + 1
//   d[4 * i + 2], d[4 * i + 3]: row 16 * warp + group + 8, the same columns
// kN is 16, 32, 64, 96, 128, 192 or 256.
template <WgmmaType kType, int kN>
__device__ void MultiplyRows(float (&d)[kN / 2], MatrixDescriptor a, MatrixDescriptor b, bool accumulate);

// Orders this warpgroup's accesses to registers (and what it waited for) before the products that follow.
__device__ void WgmmaFence();

// Ends the current group of products; waits until at most kPending groups are unfinished.
__device__ void WgmmaCommit();
template <int kPending>
__device__ void WgmmaWait();

}  // namespace coldstart::cuda

#if !defined(__CUDACC__)
#include "emulation_wgmma.h"
#else

namespace coldstart::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

__device__ inline void WgmmaFence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void WgmmaCommit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
__device__ inline void WgmmaWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Registers as C++ names them and as the assembler does, in eights.
#define COLDSTART_D(i) "+f"(d[i])
#define COLDSTART_D8(i)                                                                                               \
  COLDSTART_D(i), COLDSTART_D(i + 1), COLDSTART_D(i + 2), COLDSTART_D(i + 3), COLDSTART_D(i + 4), COLDSTART_D(i + 5), \
      COLDSTART_D(i + 6), COLDSTART_D(i + 7)
#define COLDSTART_D16(i) COLDSTART_D8(i), COLDSTART_D8(i + 8)
#define COLDSTART_D32(i) COLDSTART_D16(i), COLDSTART_D16(i + 16)
#define COLDSTART_D48(i) COLDSTART_D32(i), COLDSTART_D16(i + 32)
#define COLDSTART_D64(i) COLDSTART_D32(i), COLDSTART_D32(i + 32)
#define COLDSTART_D96(i) COLDSTART_D64(i), COLDSTART_D32(i + 64)
#define COLDSTART_D128(i) COLDSTART_D64(i), COLDSTART_D64(i + 64)
#define COLDSTART_TEN(t) \
  "%" #t "0, %" #t "1, %" #t "2, %" #t "3, %" #t "4, %" #t "5, %" #t "6, %" #t "7, %" #t "8, %" #t "9, "
#define COLDSTART_TO_7 "%0, %1, %2, %3, %4, %5, %6, %7"
#define COLDSTART_TO_15 COLDSTART_TO_7 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define COLDSTART_TO_29 COLDSTART_TO_7 ", %8, %9, " COLDSTART_TEN(1) COLDSTART_TEN(2)
#define COLDSTART_TO_31 COLDSTART_TO_29 "%30, %31"
#define COLDSTART_TO_47 COLDSTART_TO_29 COLDSTART_TEN(3) "%40, %41, %42, %43, %44, %45, %46, %47"
#define COLDSTART_TO_59 COLDSTART_TO_29 COLDSTART_TEN(3) COLDSTART_TEN(4) COLDSTART_TEN(5)
#define COLDSTART_TO_63 COLDSTART_TO_59 "%60, %61, %62, %63"
#define COLDSTART_TO_89 COLDSTART_TO_59 COLDSTART_TEN(6) COLDSTART_TEN(7) COLDSTART_TEN(8)
#define COLDSTART_TO_95 COLDSTART_TO_89 "%90, %91, %92, %93, %94, %95"
#define COLDSTART_TO_119 COLDSTART_TO_89 COLDSTART_TEN(9) COLDSTART_TEN(10) COLDSTART_TEN(11)
#define COLDSTART_TO_127 COLDSTART_TO_119 "%120, %121, %122, %123, %124, %125, %126, %127"

#define COLDSTART_MULTIPLY_ROWS(type, kind, transposes, n, last, registers, a_index, b_index, accumulate_index)     \
  template <>                                                                                                       \
  __device__ inline void MultiplyRows<WgmmaType::type, n>(float(&d)[n / 2], MatrixDescriptor a, MatrixDescriptor b, \
                                                          bool accumulate) {                                        \
    asm volatile(                                                                                                   \
        "{\n"                                                                                                       \
        ".reg .pred p;\n"                                                                                           \
        "setp.ne.b32 p, %" #accumulate_index                                                                        \
        ", 0;\n"                                                                                                    \
        "wgmma.mma_async.sync.aligned.m64n" #n kind " {" COLDSTART_TO_##last "}, %" #a_index ", %" #b_index         \
                                                                             ", p, 1, 1" transposes                 \
                                                                             ";\n"                                  \
                                                                             "}"                                    \
        : COLDSTART_D##registers(0)                                                                                 \
        : "l"(a.bits), "l"(b.bits), "r"(static_cast<int>(accumulate)));                                             \
  }
#define COLDSTART_MULTIPLY_ROWS_OF(type, kind, transposes)                 \
  COLDSTART_MULTIPLY_ROWS(type, kind, transposes, 16, 7, 8, 8, 9, 10)      \
  COLDSTART_MULTIPLY_ROWS(type, kind, transposes, 32, 15, 16, 16, 17, 18)  \
  COLDSTART_MULTIPLY_ROWS(type, kind, transposes, 64, 31, 32, 32, 33, 34)  \
  COLDSTART_MULTIPLY_ROWS(type, kind, transposes, 96, 47, 48, 48, 49, 50)  \
  COLDSTART_MULTIPLY_ROWS(type, kind, transposes, 128, 63, 64, 64, 65, 66) \
  COLDSTART_MULTIPLY_ROWS(type, kind, transposes, 192, 95, 96, 96, 97, 98) \
  COLDSTART_MULTIPLY_ROWS(type, kind, transposes, 256, 127, 128, 128, 129, 130)
COLDSTART_MULTIPLY_ROWS_OF(kF16, "k16.f32.f16.f16", ", 0, 0")
COLDSTART_MULTIPLY_ROWS_OF(kBf16, "k16.f32.bf16.bf16", ", 0, 0")
COLDSTART_MULTIPLY_ROWS_OF(kTf32, "k8.f32.tf32.tf32", "")

#else

template <WgmmaType kType, int kN>
__device__ inline void MultiplyRows(float (&)[kN / 2], MatrixDescriptor, MatrixDescriptor, bool) {}
__device__ inline void WgmmaFence() {}
__device__ inline void WgmmaCommit() {}
template <int kPending>
__device__ inline void WgmmaWait() {}

#endif

}  // namespace coldstart::cuda
#endif
