// Matrix multiplication by the tensor cores, warp by warp (mma.sync), for sm_75 and later.
//
// A block computes a tile of C, each of its warps a part of it, in steps of 64 bytes along k. With asynchronous copies
// (sm_80) the tiles of kStages steps are on their way at a time; without, those of the next step wait in registers.
// Where there are too few tiles for the GPU, a sum over k is split among blocks, which leave F32 sums in the workspace
// for AddPartialSums.
#pragma once

#include "cuda/gemm/elements.cuh"
#include "cuda/gemm/mma_operand.cuh"
#include "cuda/gemm/store_four.cuh"

namespace coldstart::cuda {

struct MmaArguments {
  int m, n, k;
  int k_per_split;  // a multiple of a step
  int splits;
  int tiles_m, tiles_n;
  int batch;
  float alpha, beta;
  Matrices a, b, c;
  Element type_c;
  float* partials;  // splits x batch x n columns of partial_ld sums, where splits is above 1
  int64_t partial_ld;
};

template <int kTileM, int kTileN, int kWarpsM, int kWarpsN, int kStages>
struct MmaTile {
  static constexpr int kM = kTileM;
  static constexpr int kN = kTileN;
  static constexpr int kThreads = kWarpsM * kWarpsN * 32;
  static constexpr int kWarpM = kTileM / kWarpsM;
  static constexpr int kWarpN = kTileN / kWarpsN;
  static constexpr int kWarpColumns = kWarpsN;
  static constexpr int kDepth = kStages;
  static constexpr int kStageBytes = (kTileM + kTileN) * 64;
  static constexpr int kStagingRow = kWarpM + 4;  // floats; four columns further is eight banks further
  static constexpr int kStagingBytes = kWarpsM * kWarpsN * 8 * kStagingRow * 4;
  static constexpr int kSharedBytes = kStages * kStageBytes > kStagingBytes ? kStages* kStageBytes : kStagingBytes;
  static_assert(kWarpM % 16 == 0 && kWarpN % 16 == 0, "a warp loads fragments of 16 rows of either factor");
};

template <Element kType>
__device__ inline void MultiplyFragments(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  if constexpr (kType == Element::kF16) {
    MultiplyF16(d, a, b);
  } else if constexpr (kType == Element::kBf16) {
    MultiplyBf16(d, a, b);
  } else {
    MultiplyTf32(d, a, b);
  }
}

template <Element kType, bool kAAlongK, bool kBAlongK, bool kAsync, typename Tile>
__global__ void __launch_bounds__(Tile::kThreads) MmaGemm(MmaArguments args) {
  using OperandA = MmaOperand<kType, kAAlongK, Tile::kM, Tile::kThreads>;
  using OperandB = MmaOperand<kType, kBAlongK, Tile::kN, Tile::kThreads>;
  constexpr int kStep = OperandA::kStep;
  constexpr int kRowsOfFragments = Tile::kWarpM / 16;
  constexpr int kColumnsOfFragments = Tile::kWarpN / 8;

  const int thread = threadIdx.x;
  const int warp = thread / 32;
  const int lane = thread % 32;
  // Blocks that run at a time share tiles of both matrices: eight tiles along m, then along n.
  const int tiles = args.tiles_m * args.tiles_n;
  const int tile = blockIdx.x % tiles;
  const int split = blockIdx.x / tiles % args.splits;
  const int member = blockIdx.x / tiles / args.splits;
  const int band = tile / (8 * args.tiles_n) * 8;
  const int band_rows = args.tiles_m - band < 8 ? args.tiles_m - band : 8;
  const int row0 = (band + tile % (8 * args.tiles_n) % band_rows) * Tile::kM;
  const int column0 = tile % (8 * args.tiles_n) / band_rows * Tile::kN;
  const int k_begin = split * args.k_per_split;
  const int k_end = args.k - k_begin < args.k_per_split ? args.k : k_begin + args.k_per_split;
  const int steps = (k_end - k_begin + kStep - 1) / kStep;

  const auto source_a = OperandA::SourceOf(args.a, member, row0, args.m, k_end);
  const auto source_b = OperandB::SourceOf(args.b, member, column0, args.n, k_end);
  const int warp_row = warp / Tile::kWarpColumns * Tile::kWarpM;
  const int warp_column = warp % Tile::kWarpColumns * Tile::kWarpN;
  const auto tile_a = [](int stage) { return shared_address(stage * Tile::kStageBytes); };
  const auto tile_b = [](int stage) { return shared_address(stage * Tile::kStageBytes + OperandA::kBytes); };

  float sums[kRowsOfFragments][kColumnsOfFragments][4] = {};
  const auto multiply = [&](int stage) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      uint32_t a[kRowsOfFragments][4];
      uint32_t b[kColumnsOfFragments / 2][2][2];
#pragma unroll
      for (int i = 0; i < kRowsOfFragments; ++i)
        OperandA::LoadFirst(a[i], tile_a(stage), warp_row + 16 * i, half, lane);
#pragma unroll
      for (int j = 0; j < kColumnsOfFragments / 2; ++j) {
        OperandB::LoadSecond(b[j], tile_b(stage), warp_column + 16 * j, half, lane);
      }
#pragma unroll
      for (int i = 0; i < kRowsOfFragments; ++i) {
#pragma unroll
        for (int j = 0; j < kColumnsOfFragments; ++j) MultiplyFragments<kType>(sums[i][j], a[i], b[j / 2][j % 2]);
      }
    }
  };

  if constexpr (kAsync) {
    const auto load = [&](int step) {
      if (step < steps) {
        OperandA::LoadAsync(source_a, thread, k_begin + step * kStep, tile_a(step % Tile::kDepth));
        OperandB::LoadAsync(source_b, thread, k_begin + step * kStep, tile_b(step % Tile::kDepth));
      }
      CopyAsyncCommit();
    };
#pragma unroll
    for (int step = 0; step < Tile::kDepth - 1; ++step) load(step);
    for (int step = 0; step < steps; ++step) {
      CopyAsyncWait<Tile::kDepth - 2>();
      __syncthreads();
      // Into the stage that all warps have left by now.
      load(step + Tile::kDepth - 1);
      multiply(step % Tile::kDepth);
    }
    CopyAsyncWait<0>();
  } else {
    uint4 next_a[OperandA::kPiecesOfThread];
    uint4 next_b[OperandB::kPiecesOfThread];
    OperandA::Load(source_a, thread, k_begin, next_a);
    OperandB::Load(source_b, thread, k_begin, next_b);
    for (int step = 0; step < steps; ++step) {
      OperandA::Store(next_a, thread, tile_a(step % 2));
      OperandB::Store(next_b, thread, tile_b(step % 2));
      __syncthreads();
      if (step + 1 < steps) {
        OperandA::Load(source_a, thread, k_begin + (step + 1) * kStep, next_a);
        OperandB::Load(source_b, thread, k_begin + (step + 1) * kStep, next_b);
      }
      multiply(step % 2);
    }
  }
  __syncthreads();

  // Eight columns at a time through shared memory, so that what goes out is contiguous along m.
  const SharedArray<float> staging(warp * 8 * Tile::kStagingRow * 4);
  constexpr int kLanesOfColumn = Tile::kWarpM / 4;
  constexpr int kColumnsAtOnce = 32 / kLanesOfColumn < 8 ? 32 / kLanesOfColumn : 8;
  void* c = const_cast<void*>(MatrixOf(args.c, member, args.type_c == Element::kF32 ? 4 : 2));
#pragma unroll
  for (int j = 0; j < kColumnsOfFragments; ++j) {
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kRowsOfFragments; ++i) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        staging.store((lane % 4 * 2 + e % 2) * Tile::kStagingRow + i * 16 + lane / 4 + e / 2 * 8, sums[i][j][e]);
      }
    }
    __syncwarp();
#pragma unroll
    for (int first = 0; first < 8; first += kColumnsAtOnce) {
      const int at = first + lane / kLanesOfColumn;
      if (at >= 8) continue;
      const int row = row0 + warp_row + lane % kLanesOfColumn * 4;
      const int column = column0 + warp_column + j * 8 + at;
      if (row >= args.m || column >= args.n) continue;
      const float4 four = staging.template load_as<float4>(at * Tile::kStagingRow + lane % kLanesOfColumn * 4);
      if (args.splits > 1) {
        const int64_t place = (static_cast<int64_t>(split) * args.batch + member) * args.n + column;
        *reinterpret_cast<float4*>(args.partials + place * args.partial_ld + row) = four;
      } else {
        StoreFourAs<kType>(c, row + column * args.c.ld, args.type_c, four, args.m - row, args.alpha, args.beta);
      }
    }
  }
}

// C from the sums that the blocks of a split left, added in the order of k. A thread has four rows of a column.
template <Element kType>
__global__ void __launch_bounds__(256) AddPartialSums(MmaArguments args) {
  const int64_t fours = args.partial_ld / 4;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
  const int64_t column = index / fours;  // of all members, one after another
  if (column >= static_cast<int64_t>(args.batch) * args.n) return;
  const int row = static_cast<int>(index % fours) * 4;
  const float4* from = reinterpret_cast<const float4*>(args.partials + column * args.partial_ld + row);
  float4 sums = *from;
  for (int split = 1; split < args.splits; ++split) {
    const float4 more = from[static_cast<int64_t>(split) * args.batch * args.n * fours];
    sums = float4{sums.x + more.x, sums.y + more.y, sums.z + more.z, sums.w + more.w};
  }
  const int member = static_cast<int>(column / args.n);
  void* c = const_cast<void*>(MatrixOf(args.c, member, args.type_c == Element::kF32 ? 4 : 2));
  StoreFourAs<kType>(c, row + column % args.n * args.c.ld, args.type_c, sums, args.m - row, args.alpha, args.beta);
}

}  // namespace coldstart::cuda
