// Matrix multiplication by the tensor cores of sm_90a, warpgroup by warpgroup (wgmma).
//
// C = A^T * B in the terms of cuBLAS: both factors have their elements along k contiguous, as the weights and
// activations of llama.cpp do. A block has one warpgroup that starts bulk copies of both factors into a ring of stages
// in shared memory, 128 bytes along k at a time, and one or two that multiply: each 64 rows of A by all of the tile's
// rows of B. Barriers of each stage say that it is full and that it is empty again. Blocks live as long as there are
// tiles, so that the first loads of a tile run beside the stores of the one before it.
//
// Where there are few tiles, a cluster of `splits` blocks has one, and each of them a part of the sum over k. They
// leave their sums in their shared memory, and each adds up some columns of all of them, in the order of k, so that
// results do not depend on timing.
//
// Copies to all blocks of a cluster at once (multicast), which save reads of the second-level cache, were tried: on an
// H200 no shape that llama.cpp has was more than 1.5 % faster by them, and most were slower.
#pragma once

#include "cuda/device/bulk_copy.cuh"
#include "cuda/device/cluster.cuh"
#include "cuda/device/mbarrier.cuh"
#include "cuda/device/mma.cuh"
#include "cuda/device/wgmma.cuh"
#include "cuda/gemm/elements.cuh"
#include "cuda/gemm/store_four.cuh"

namespace coldstart::cuda {

struct WgmmaArguments {
  int m, n, k;
  int tiles_m;
  int tiles_n;
  int batch;
  int splits;
  float alpha, beta;
  Matrices c;
  Element type_c;
  bool store_boxes;        // C may be written by bulk copies
  int member_a, member_b;  // 0 where all members of the batch have the same matrix
};

template <WgmmaType kKind, int kColumns, int kMultipliers>
struct WgmmaTile {
  static constexpr WgmmaType kType = kKind;
  static constexpr int kM = 64 * kMultipliers;
  static constexpr int kN = kColumns;
  static constexpr int kWarpgroups = kMultipliers;
  static constexpr int kThreads = 128 * (kMultipliers + 1);
  static constexpr int kStep = kKind == WgmmaType::kTf32 ? 32 : 64;  // elements of 128 bytes along k
  static constexpr int kBytesA = kM * 128;
  static constexpr int kBytesB = kN * 128;
  static constexpr int kStageBytes = kBytesA + kBytesB;

  // Where C is stored by bulk copies: two buffers of some columns for each multiplying warpgroup.
  static constexpr int kBoxColumns = kN % 64 == 0 ? 64 : (kN % 32 == 0 ? 32 : 16);
  static constexpr int kBoxBytes = kBoxColumns * 128;
  static constexpr int kStagingBytes = kKind == WgmmaType::kTf32 ? 0 : 2 * kMultipliers * kBoxBytes;

  static constexpr int kBarrierBytes = 1024;
  static constexpr int kStagesThatFit = (227 * 1024 - kBarrierBytes - kStagingBytes) / kStageBytes;
  static constexpr int kStages = kStagesThatFit < 10 ? kStagesThatFit : 10;
  static constexpr int kStagesAt = kBarrierBytes;
  static constexpr int kStagingAt = kStagesAt + kStages * kStageBytes;

  // Sums of a split, over the stages. Four columns further is eight banks further.
  static constexpr int kSumsRow = kM + 4;
  static constexpr int kSharedBytes = kStagingAt + kStagingBytes;
  static_assert(kN * kSumsRow * 4 <= kStages * kStageBytes, "the sums of a split take the place of the stages");
};

// The stage of a ring, and the parity of the turn.
struct RingPosition {
  int stage = 0;
  uint32_t parity = 0;

  __device__ void Advance(int stages) {
    if (++stage == stages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

struct TilePlace {
  int row, column, member;
};

// The tile with this number. Tiles that are computed at a time share rows of both factors: bands of 16 tiles
// along m, then along n.
template <typename Tile>
__device__ inline TilePlace PlaceOf(const WgmmaArguments& args, int number) {
  const int tiles = args.tiles_m * args.tiles_n;
  const int member = number / tiles;
  const int tile = number % tiles;
  constexpr int kBandHeight = 16;
  const int band = tile / (kBandHeight * args.tiles_n) * kBandHeight;
  const int height = min(args.tiles_m - band, kBandHeight);
  const int in_band = tile % (kBandHeight * args.tiles_n);
  return TilePlace{(band + in_band % height) * Tile::kM, in_band / height * Tile::kN, member};
}

template <typename Tile>
__device__ inline SharedAddress FullBarrier(int stage) {
  return shared_address(stage * 8);
}
template <typename Tile>
__device__ inline SharedAddress EmptyBarrier(int stage) {
  return shared_address((Tile::kStages + stage) * 8);
}

// The loading warpgroup's one thread: all tiles of this block, all steps of each.
template <typename Tile>
__device__ inline void LoadTiles(const TensorMap* map_a, const TensorMap* map_b, const WgmmaArguments& args, int first,
                                 int stride, int tiles, int step_begin, int step_end) {
  RingPosition at;
  for (int number = first; number < tiles; number += stride) {
    const TilePlace place = PlaceOf<Tile>(args, number);
    for (int step = step_begin; step < step_end; ++step) {
      const SharedAddress full = FullBarrier<Tile>(at.stage);
      const SharedAddress stage = shared_address(Tile::kStagesAt + at.stage * Tile::kStageBytes);
      BarrierWait(EmptyBarrier<Tile>(at.stage), at.parity ^ 1);
      BarrierArriveExpect(full, Tile::kStageBytes);
      LoadBox(stage, map_a, full, step * Tile::kStep, place.row, place.member * args.member_a);
      LoadBox(stage + Tile::kBytesA, map_b, full, step * Tile::kStep, place.column, place.member * args.member_b);
      at.Advance(Tile::kStages);
    }
  }
}

// The sums of one tile of a multiplying warpgroup.
template <typename Tile>
__device__ inline void MultiplyTile(float (&sums)[Tile::kN / 2], RingPosition* at, int warpgroup, int lane, int steps) {
  // Each warp says so, when all of its lanes have waited.
  const auto give_back = [&](int stage) {
    __syncwarp();
    if (lane == 0) BarrierArrive(EmptyBarrier<Tile>(stage));
  };
#pragma unroll
  for (int i = 0; i < Tile::kN / 2; ++i) sums[i] = 0;
  int previous = -1;
  for (int step = 0; step < steps; ++step) {
    BarrierWait(FullBarrier<Tile>(at->stage), at->parity);
    const SharedAddress stage = shared_address(Tile::kStagesAt + at->stage * Tile::kStageBytes);
    const SharedAddress rows_a = stage + warpgroup * 64 * 128;
    const SharedAddress rows_b = stage + Tile::kBytesA;
    WgmmaFence();
#pragma unroll
    for (uint32_t offset = 0; offset < 128; offset += 32) {
      MultiplyRows<Tile::kType, Tile::kN>(sums, DescribeRows(rows_a, offset), DescribeRows(rows_b, offset), true);
    }
    WgmmaCommit();
    // The products of this step run on while those of the step before are known to have ended, and their stage is given
    // back.
    WgmmaWait<1>();
    if (previous >= 0) give_back(previous);
    previous = at->stage;
    at->Advance(Tile::kStages);
  }
  WgmmaWait<0>();
  if (previous >= 0) give_back(previous);
}

// Two results as the 16-bit type of the factors, the first in the low half.
template <WgmmaType kType>
__device__ inline uint32_t PackTwo(float low, float high) {
  if constexpr (kType == WgmmaType::kF16) {
    return __half_as_ushort(__float2half_rn(low)) | static_cast<uint32_t>(__half_as_ushort(__float2half_rn(high)))
                                                        << 16;
  } else {
    return __bfloat16_as_ushort(__float2bfloat16_rn(low)) |
           static_cast<uint32_t>(__bfloat16_as_ushort(__float2bfloat16_rn(high))) << 16;
  }
}

// 64 rows of the tile as 16-bit elements: through shared memory, some columns at a time, and out by bulk copies.
template <typename Tile>
__device__ inline void StoreByBoxes(const float (&sums)[Tile::kN / 2], const TensorMap* map_c, const TilePlace& place,
                                    float alpha, int warpgroup, int thread, int* next_buffer) {
  const int lane = thread % 32;
  const int warp = thread / 32;
#pragma unroll
  for (int first = 0; first < Tile::kN; first += Tile::kBoxColumns) {
    const SharedAddress box = shared_address(Tile::kStagingAt + (warpgroup * 2 + *next_buffer) * Tile::kBoxBytes);
    // The copy before the last one has left this buffer.
    if (thread == 0) StoreBoxWaitRead<1>();
    NamedBarrier(1 + warpgroup, 128);
#pragma unroll
    for (int block = 0; block < Tile::kBoxColumns / 8; block += 2) {
      const int i = (first / 8 + block) * 4;
      const uint32_t four[4] = {PackTwo<Tile::kType>(alpha * sums[i + 0], alpha * sums[i + 1]),
                                PackTwo<Tile::kType>(alpha * sums[i + 2], alpha * sums[i + 3]),
                                PackTwo<Tile::kType>(alpha * sums[i + 4], alpha * sums[i + 5]),
                                PackTwo<Tile::kType>(alpha * sums[i + 6], alpha * sums[i + 7])};
      const int column = (block + lane / 16) * 8 + lane % 8;
      const int piece = warp * 2 + lane / 8 % 2;
      StoreMatrix4Transposed(box + column * 128 + (piece ^ column % 8) * 16, four);
    }
    FenceAsyncProxy();
    NamedBarrier(1 + warpgroup, 128);
    if (thread == 0) {
      StoreBox(map_c, box, place.row + warpgroup * 64, place.column + first, place.member);
      StoreBoxCommit();
    }
    *next_buffer ^= 1;
  }
}

// The same as any type, element by element: a warp writes 8 rows (32 bytes of F32) of four columns at a time.
template <typename Out, typename Tile>
__device__ inline void StoreByElements(const float (&sums)[Tile::kN / 2], Out* c, const WgmmaArguments& args,
                                       const TilePlace& place, int warpgroup, int thread) {
  const int row = place.row + warpgroup * 64 + thread / 32 * 16 + thread % 32 / 4;
  const int column = place.column + thread % 4 * 2;
  Out* to = c + row + static_cast<int64_t>(column) * args.c.ld;
#pragma unroll
  for (int block = 0; block < Tile::kN / 8; ++block) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const bool inside = row + e / 2 * 8 < args.m && column + block * 8 + e % 2 < args.n;
      if (inside)
        StoreResult(to + (block * 8 + e % 2) * args.c.ld + e / 2 * 8, sums[block * 4 + e], args.alpha, args.beta);
    }
  }
}

// A warpgroup's sums into this block's shared memory, columns of Tile::kSumsRow.
template <typename Tile>
__device__ inline void LeaveSums(const float (&sums)[Tile::kN / 2], int warpgroup, int thread) {
  const SharedArray<float> all(Tile::kStagesAt);
  const int row = warpgroup * 64 + thread / 32 * 16 + thread % 32 / 4;
#pragma unroll
  for (int block = 0; block < Tile::kN / 8; ++block) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      all.store((block * 8 + thread % 4 * 2 + e % 2) * Tile::kSumsRow + row + e / 2 * 8, sums[block * 4 + e]);
    }
  }
}

// This block's share of the columns of a split tile: the sums of all blocks of the cluster, in the order of k.
template <Element kType, typename Tile>
__device__ inline void AddSums(const WgmmaArguments& args, const TilePlace& place, int rank, int thread) {
  const SharedArray<float> all(Tile::kStagesAt);
  const int columns = Tile::kN / args.splits;
  char* c = static_cast<char*>(const_cast<void*>(MatrixOf(args.c, place.member, args.type_c == Element::kF32 ? 4 : 2)));
  for (int i = thread; i < columns * (Tile::kM / 4); i += Tile::kWarpgroups * 128) {
    const int column = rank * columns + i / (Tile::kM / 4);
    const int row = i % (Tile::kM / 4) * 4;
    if (place.row + row >= args.m || place.column + column >= args.n) continue;
    float4 sums = LoadRemoteFloat4(all.address(column * Tile::kSumsRow + row), 0);
    for (int other = 1; other < args.splits; ++other) {
      const float4 more = LoadRemoteFloat4(all.address(column * Tile::kSumsRow + row), other);
      sums = float4{sums.x + more.x, sums.y + more.y, sums.z + more.z, sums.w + more.w};
    }
    StoreFourAs<kType>(c, place.row + row + static_cast<int64_t>(place.column + column) * args.c.ld, args.type_c, sums,
                       args.m - place.row - row, args.alpha, args.beta);
  }
}

template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    WgmmaGemm(const __grid_constant__ TensorMap map_a, const __grid_constant__ TensorMap map_b,
              const __grid_constant__ TensorMap map_c, const __grid_constant__ WgmmaArguments args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || !defined(__CUDACC__)
  constexpr Element kType = Tile::kType == WgmmaType::kF16    ? Element::kF16
                            : Tile::kType == WgmmaType::kBf16 ? Element::kBf16
                                                              : Element::kF32;
  const int warpgroup = static_cast<int>(threadIdx.x) / 128 - 1;  // -1 loads
  const int thread = threadIdx.x % 128;
  const int rank = args.splits > 1 ? static_cast<int>(ClusterRank()) : 0;
  const int tiles = args.tiles_m * args.tiles_n * args.batch;
  const int first = blockIdx.x / args.splits;
  const int stride = gridDim.x / args.splits;
  const int all_steps = (args.k + Tile::kStep - 1) / Tile::kStep;
  const int steps_of_part = (all_steps + args.splits - 1) / args.splits;
  const int step_begin = min(rank * steps_of_part, all_steps);
  const int step_end = min(step_begin + steps_of_part, all_steps);

  if (threadIdx.x == 0) {
    PrefetchTensorMap(&map_a);
    PrefetchTensorMap(&map_b);
    for (int stage = 0; stage < Tile::kStages; ++stage) {
      BarrierInit(FullBarrier<Tile>(stage), 1);
      BarrierInit(EmptyBarrier<Tile>(stage), 4 * Tile::kWarpgroups);  // each warp that multiplies
    }
    FenceBarrierInit();
  }
  if (args.splits > 1) {
    ClusterArrive();
    ClusterWait();
  } else {
    __syncthreads();
  }

  if (warpgroup < 0) {
    if constexpr (Tile::kWarpgroups == 2) ReleaseRegisters<40>();
    if (threadIdx.x == 0) {
      LoadTiles<Tile>(&map_a, &map_b, args, first, stride, tiles, step_begin, step_end);
    }
    __syncwarp();
    if (args.splits > 1) {
      ClusterArrive();
      ClusterWait();
    }
  } else {
    if constexpr (Tile::kWarpgroups == 2) AcquireRegisters<232>();
    RingPosition at;
    int next_buffer = 0;
    for (int number = first; number < tiles; number += stride) {
      const TilePlace place = PlaceOf<Tile>(args, number);
      float sums[Tile::kN / 2];
      MultiplyTile<Tile>(sums, &at, warpgroup, thread % 32, step_end - step_begin);
      if (args.splits > 1) {
        // Nobody multiplies what the sums overwrite.
        NamedBarrier(3, Tile::kWarpgroups * 128);
        LeaveSums<Tile>(sums, warpgroup, thread);
        ClusterArrive();
        ClusterWait();
        AddSums<kType, Tile>(args, place, rank, warpgroup * 128 + thread);
        break;  // a tile for each cluster
      }
      void* c = const_cast<void*>(MatrixOf(args.c, place.member, args.type_c == Element::kF32 ? 4 : 2));
      if constexpr (kType == Element::kF32) {
        StoreByElements<float, Tile>(sums, static_cast<float*>(c), args, place, warpgroup, thread);
      } else {
        if (args.store_boxes) {
          StoreByBoxes<Tile>(sums, &map_c, place, args.alpha, warpgroup, thread, &next_buffer);
        } else if (args.type_c == Element::kF32) {
          StoreByElements<float, Tile>(sums, static_cast<float*>(c), args, place, warpgroup, thread);
        } else if constexpr (kType == Element::kF16) {
          StoreByElements<__half, Tile>(sums, static_cast<__half*>(c), args, place, warpgroup, thread);
        } else {
          StoreByElements<__nv_bfloat16, Tile>(sums, static_cast<__nv_bfloat16*>(c), args, place, warpgroup, thread);
        }
      }
    }
    if (thread == 0) StoreBoxWait<0>();
  }
  // Shared memory stays until no block of the cluster needs it.
  if (args.splits > 1) {
    __syncwarp();
    ClusterArrive();
    ClusterWait();
  }
#endif
}

}  // namespace coldstart::cuda
