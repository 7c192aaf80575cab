// Starts MmaGemm for one type of elements: which tiles there are for which layout of the factors.
#pragma once

#include "cuda/device/launch.cuh"
#include "cuda/gemm/gemm.h"
#include "cuda/gemm/mma_gemm.cuh"

namespace coldstart::cuda {

template <Element kType, bool kAAlongK, bool kBAlongK, bool kAsync, typename Tile>
cudaError_t StartMma(const GemmProblem& p, const GemmPlan& plan, void* workspace, cudaStream_t stream) {
  constexpr int kStep = kType == Element::kF32 ? 16 : 32;
  MmaArguments args{};
  args.m = p.m;
  args.n = p.n;
  args.k = p.k;
  const int steps = (p.k + kStep - 1) / kStep;
  args.k_per_split = (steps + plan.splits - 1) / plan.splits * kStep;
  args.splits = (p.k + args.k_per_split - 1) / args.k_per_split;  // no part is empty
  args.tiles_m = (p.m + Tile::kM - 1) / Tile::kM;
  args.tiles_n = (p.n + Tile::kN - 1) / Tile::kN;
  args.batch = p.batch;
  args.alpha = p.alpha;
  args.beta = p.beta;
  args.a = p.a;
  args.b = p.b;
  args.c = p.c;
  args.type_c = p.type_c;
  args.partials = static_cast<float*>(workspace);
  args.partial_ld = (static_cast<int64_t>(p.m) + 3) / 4 * 4;
  const int64_t blocks = static_cast<int64_t>(args.tiles_m) * args.tiles_n * args.splits * p.batch;
  const int64_t adders = (args.partial_ld / 4 * p.n * p.batch + 255) / 256;
  if (blocks > INT32_MAX || adders > INT32_MAX) return cudaErrorInvalidValue;

  const cudaError_t error =
      launch(MmaGemm<kType, kAAlongK, kBAlongK, kAsync, Tile>,
             Launch{dim3(static_cast<unsigned>(blocks)), dim3(Tile::kThreads), Tile::kSharedBytes, stream}, args);
  if (error != cudaSuccess || args.splits == 1) return error;
  return launch(AddPartialSums<kType>, Launch{dim3(static_cast<unsigned>(adders)), dim3(256), 0, stream}, args);
}

// The tiles: kTileM, kTileN, warps along each, stages.
using MmaTile128x128 = MmaTile<128, 128, 2, 4, 4>;
using MmaTile128x64 = MmaTile<128, 64, 4, 2, 4>;
using MmaTile64x64 = MmaTile<64, 64, 2, 2, 4>;
using MmaTile64x32 = MmaTile<64, 32, 2, 2, 6>;
using MmaTile64x16 = MmaTile<64, 16, 4, 1, 8>;

template <Element kType>
cudaError_t RunMmaOf(const GemmProblem& p, const GemmPlan& plan, void* workspace, cudaStream_t stream) {
  const bool a_along_k = p.transpose_a;
  const bool b_along_k = !p.transpose_b;
#define COLDSTART_START(a, b, async, tile)                                                         \
  if (a_along_k == a && b_along_k == b && plan.asynchronous == async && plan.tile_m == tile::kM && \
      plan.tile_n == tile::kN) {                                                                   \
    return StartMma<kType, a, b, async, tile>(p, plan, workspace, stream);                         \
  }
  COLDSTART_START(true, true, true, MmaTile128x128)
  COLDSTART_START(true, true, true, MmaTile128x64)
  COLDSTART_START(true, true, true, MmaTile64x64)
  COLDSTART_START(true, true, true, MmaTile64x32)
  COLDSTART_START(true, true, true, MmaTile64x16)
  COLDSTART_START(true, false, true, MmaTile128x128)
  COLDSTART_START(true, false, true, MmaTile64x64)
  COLDSTART_START(false, true, true, MmaTile128x128)
  COLDSTART_START(false, true, true, MmaTile64x64)
  COLDSTART_START(false, false, true, MmaTile128x128)
  COLDSTART_START(false, false, true, MmaTile64x64)
  if constexpr (kType == Element::kF16) {
    COLDSTART_START(true, true, false, MmaTile128x64)
    COLDSTART_START(true, true, false, MmaTile64x32)
    COLDSTART_START(true, false, false, MmaTile64x64)
    COLDSTART_START(false, true, false, MmaTile64x64)
    COLDSTART_START(false, false, false, MmaTile64x64)
  }
#undef COLDSTART_START
  return cudaErrorNotSupported;
}

}  // namespace coldstart::cuda
