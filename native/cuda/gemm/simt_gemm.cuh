// Matrix multiplication by the ordinary arithmetic units, in F32, for any types, transposes and strides.
//
// A block of 256 threads computes 64 x 64 elements of C, each thread 4 x 4. Steps of 16 along k pass through shared
// memory as F32.
#pragma once

#include "cuda/device/platform.cuh"
#include "cuda/device/shared.cuh"
#include "cuda/gemm/elements.cuh"
#include "cuda/gemm/problem.h"

namespace coldstart::cuda {

struct SimtTile {
  static constexpr int kSide = 64;
  static constexpr int kStep = 16;
  static constexpr int kThreads = 256;
  static constexpr int kRow = kSide + 4;  // floats from one k to the next: rows of 16 bytes, on other banks
  static constexpr int kSharedBytes = 2 * kStep * kRow * 4;
};

// The problem with its strides along rows and k instead of transposes.
struct SimtArguments {
  int m, n, k;
  float alpha, beta;
  Matrices a, b, c;
  int64_t a_row, a_k;  // elements from one row of op(A), and from one k, to the next
  int64_t b_column, b_k;
  int tiles_m, tiles_n;
};

template <typename In, typename Out>
__global__ void __launch_bounds__(SimtTile::kThreads) SimtGemm(SimtArguments args) {
  constexpr int kSide = SimtTile::kSide;
  constexpr int kStep = SimtTile::kStep;
  constexpr int kRow = SimtTile::kRow;
  const SharedArray<float> tile_a(0);
  const SharedArray<float> tile_b(kStep * kRow * 4);

  const int thread = threadIdx.x;
  const int tile = blockIdx.x % (args.tiles_m * args.tiles_n);
  const int member = blockIdx.x / (args.tiles_m * args.tiles_n);
  const int row0 = tile % args.tiles_m * kSide;
  const int column0 = tile / args.tiles_m * kSide;
  const In* a = static_cast<const In*>(MatrixOf(args.a, member, sizeof(In)));
  const In* b = static_cast<const In*>(MatrixOf(args.b, member, sizeof(In)));
  Out* c = static_cast<Out*>(const_cast<void*>(MatrixOf(args.c, member, sizeof(Out))));

  // Neighbouring threads load neighbouring elements, along k or along the other side, whichever is contiguous.
  const bool a_along_k = args.a_k == 1;
  const bool b_along_k = args.b_k == 1;
  float sums[4][4] = {};
  const int my_row = thread % 16 * 4;
  const int my_column = thread / 16 * 4;

  for (int k0 = 0; k0 < args.k; k0 += kStep) {
    for (int i = thread; i < kSide * kStep; i += SimtTile::kThreads) {
      {
        const int along = a_along_k ? i % kStep : i / kSide;
        const int side = a_along_k ? i / kStep : i % kSide;
        const bool inside = row0 + side < args.m && k0 + along < args.k;
        const float value = inside ? ToFloat(a[(row0 + side) * args.a_row + (k0 + along) * args.a_k]) : 0.0f;
        tile_a.store(along * kRow + side, value);
      }
      {
        const int along = b_along_k ? i % kStep : i / kSide;
        const int side = b_along_k ? i / kStep : i % kSide;
        const bool inside = column0 + side < args.n && k0 + along < args.k;
        const float value = inside ? ToFloat(b[(column0 + side) * args.b_column + (k0 + along) * args.b_k]) : 0.0f;
        tile_b.store(along * kRow + side, value);
      }
    }
    __syncthreads();
#pragma unroll
    for (int along = 0; along < kStep; ++along) {
      const float4 x = tile_a.template load_as<float4>(along * kRow + my_row);
      const float4 y = tile_b.template load_as<float4>(along * kRow + my_column);
      const float rows[4] = {x.x, x.y, x.z, x.w};
      const float columns[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[j][i] = fmaf(rows[i], columns[j], sums[j][i]);
      }
    }
    __syncthreads();
  }

  for (int j = 0; j < 4; ++j) {
    for (int i = 0; i < 4; ++i) {
      const int row = row0 + my_row + i;
      const int column = column0 + my_column + j;
      if (row < args.m && column < args.n) StoreResult(c + row + column * args.c.ld, sums[j][i], args.alpha, args.beta);
    }
  }
}

}  // namespace coldstart::cuda
