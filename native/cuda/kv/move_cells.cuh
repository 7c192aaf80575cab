// Moves cells of a sequence out of the KV cache and back: all layers in one launch. What is staged may lie in device
// memory, or in pinned memory that the device reaches.
#pragma once

#include "cuda/device/launch.cuh"
#include "cuda/kv/cells.h"
#include "cuda/quantize/dequantize.cuh"
#include "cuda/quantize/small_blocks.cuh"

namespace coldstart::cuda {

// Rows as they are. Threads take vectors one after another over all rows; each of a thread's loads is on its way before
// it stores.
template <typename Vector, bool kGather>
__device__ __forceinline__ void MoveRows(const KvPart& part, const uint32_t* cells, uint8_t* staged) {
  const uint32_t per_row = part.size / static_cast<uint32_t>(sizeof(Vector));
  const uint32_t all = part.count * per_row;
  const uint32_t first = blockIdx.x * (kKvThreads * kKvVectorsPerThread) + threadIdx.x;
  Vector values[kKvVectorsPerThread];
  uint8_t* targets[kKvVectorsPerThread];
#pragma unroll
  for (uint32_t i = 0; i < kKvVectorsPerThread; ++i) {
    const uint32_t index = first + i * kKvThreads;
    if (index >= all) continue;
    const uint32_t row = index / per_row;
    uint8_t* cached = part.data + cells[part.first + row] * part.stride + (index - row * per_row) * sizeof(Vector);
    uint8_t* out = staged + part.staged + static_cast<uint64_t>(index) * sizeof(Vector);
    values[i] = *reinterpret_cast<const Vector*>(kGather ? cached : out);
    targets[i] = kGather ? out : cached;
  }
#pragma unroll
  for (uint32_t i = 0; i < kKvVectorsPerThread; ++i) {
    if (first + i * kKvThreads < all) *reinterpret_cast<Vector*>(targets[i]) = values[i];
  }
}

// Transposed: an element of all cells is a row. A warp moves 256 cells of one row, each lane eight. Where these are
// such that every lane finds its own next to each other, in the cache and outside, they are moved as vectors; else lane
// by lane, neighbours in the list by neighbours in the warp, so that runs of cells are moved together at least.
template <typename Element, typename Vector, bool kGather>
__device__ __forceinline__ void MoveColumns(const KvPart& part, const uint32_t* cells, uint32_t cell_count,
                                            uint8_t* staged) {
  constexpr uint32_t kPerWarp = 32 * kKvCellsPerUnit;
  constexpr uint32_t kVectors = kKvCellsPerUnit * sizeof(Element) / sizeof(Vector);
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t per_row = (cell_count + kPerWarp - 1) / kPerWarp;
  const uint32_t unit = (blockIdx.x * kKvThreads + threadIdx.x) / 32;
  const uint32_t row = unit / per_row;
  if (row >= part.count) return;  // all of the warp
  const uint32_t first = (unit - row * per_row) * kPerWarp;
  const uint32_t count = min(kPerWarp, cell_count - first);
  const uint32_t* own_cells = cells + first;
  uint8_t* cached = part.data + (part.first + row) * part.stride;
  uint8_t* out = staged + part.staged + (static_cast<uint64_t>(row) * cell_count + first) * sizeof(Element);

  bool vectors = false;
  if (count == kPerWarp) {
    const uint32_t start = own_cells[kKvCellsPerUnit * lane];
    vectors = true;
#pragma unroll
    for (uint32_t i = 1; i < kKvCellsPerUnit; ++i) vectors &= own_cells[kKvCellsPerUnit * lane + i] == start + i;
    uint8_t* cached_vectors = cached + static_cast<uint64_t>(start) * sizeof(Element);
    uint8_t* out_vectors = out + kKvCellsPerUnit * lane * sizeof(Element);
    vectors &=
        (reinterpret_cast<uintptr_t>(cached_vectors) | reinterpret_cast<uintptr_t>(out_vectors)) % sizeof(Vector) == 0;
    vectors = __all_sync(0xffffffffu, vectors);
    if (vectors) {
      const auto* from = reinterpret_cast<const Vector*>(kGather ? cached_vectors : out_vectors);
      auto* to = reinterpret_cast<Vector*>(kGather ? out_vectors : cached_vectors);
#pragma unroll
      for (uint32_t i = 0; i < kVectors; ++i) to[i] = from[i];
    }
  }
  if (vectors) return;

  Element values[kKvCellsPerUnit];
  uint32_t own[kKvCellsPerUnit];
#pragma unroll
  for (uint32_t i = 0; i < kKvCellsPerUnit; ++i) {
    const uint32_t index = 32 * i + lane;
    if (index >= count) continue;
    own[i] = own_cells[index];
    values[i] =
        kGather ? reinterpret_cast<const Element*>(cached)[own[i]] : reinterpret_cast<const Element*>(out)[index];
  }
#pragma unroll
  for (uint32_t i = 0; i < kKvCellsPerUnit; ++i) {
    const uint32_t index = 32 * i + lane;
    if (index >= count) continue;
    if (kGather) {
      reinterpret_cast<Element*>(out)[index] = values[i];
    } else {
      reinterpret_cast<Element*>(cached)[own[i]] = values[i];
    }
  }
}

// Where four threads find the part of a row that is block `index` of all the rows' blocks.
__device__ __forceinline__ uint4* CachedBlock(const KvPart& part, const uint32_t* cells, uint32_t index) {
  const uint32_t per_row = part.size / 64;
  const uint32_t row = index / per_row;
  uint8_t* cached = part.data + cells[part.first + row] * part.stride + (index - row * per_row) * 64;
  return reinterpret_cast<uint4*>(cached) + threadIdx.x % 4;
}

// Rows of F16 to blocks: staged rows have no gaps, so that a thread block stores all it made as one.
template <typename Format>
__device__ __forceinline__ void EncodeRows(const KvPart& part, const uint32_t* cells, uint8_t* staged,
                                           uint32_t* refusals) {
  const uint32_t all = part.count * (part.size / 64);
  const uint32_t first = blockIdx.x * kKvBlocksPerGroup;
  if (first >= all) return;
  const uint32_t count = min(kKvBlocksPerGroup, all - first);
  const uint32_t own = threadIdx.x / 4;
  float x[8];
  SourceF16::LoadEight(CachedBlock(part, cells, first + (own < count ? own : count - 1)), 0, x);
  const bool fits = AllFit(x);
  const bool finite = Format::Store(x, SharedArray<uint16_t>(0), own * (Format::kBytes / 2));
  if (!fits || !finite) atomicOr(refusals, fits ? kRefusedScale : kRefusedValue);
  __syncthreads();
  StoreStaged(staged + part.staged + static_cast<uint64_t>(first) * Format::kBytes, count * Format::kBytes);
}

template <typename Blocks>
__device__ __forceinline__ void DecodeRows(const KvPart& part, const uint32_t* cells, const uint8_t* staged) {
  const uint32_t all = part.count * (part.size / 64);
  const uint32_t first = blockIdx.x * kKvBlocksPerGroup;
  if (first >= all) return;
  const uint32_t count = min(kKvBlocksPerGroup, all - first);
  const uint32_t own = threadIdx.x / 4;
  LoadStaged(staged + part.staged + static_cast<uint64_t>(first) * Blocks::kBytes, count * Blocks::kBytes);
  __syncthreads();
  if (own >= count) return;
  float x[8];
  Blocks::Expand(SharedArray<uint16_t>(0), own * Blocks::kBytes, static_cast<int>(threadIdx.x % 4), x);
  TargetF16::StoreEight(CachedBlock(part, cells, first + own), 0, x);
}

// One part for each blockIdx.y. Shared memory: kKvBlocksPerGroup blocks of 34 bytes if any part is encoded.
template <bool kGather>
__global__ void __launch_bounds__(kKvThreads)
    MoveCells(const KvPart* parts, const uint32_t* cells, uint32_t cell_count, uint8_t* staged, uint32_t* refusals) {
  const KvPart part = parts[blockIdx.y];
  if (part.element_bytes != 0) {
    switch (part.element_bytes) {
      case 1: MoveColumns<uint8_t, uint2, kGather>(part, cells, cell_count, staged); break;
      case 2: MoveColumns<uint16_t, uint4, kGather>(part, cells, cell_count, staged); break;
      default: MoveColumns<uint32_t, uint4, kGather>(part, cells, cell_count, staged); break;
    }
    return;
  }
  if (part.encoding == KvEncoding::kQ8_0) {
    if (kGather) {
      EncodeRows<FormatQ8_0>(part, cells, staged, refusals);
    } else {
      DecodeRows<BlocksQ8_0>(part, cells, staged);
    }
    return;
  }
  if (part.encoding == KvEncoding::kQ4_0) {
    if (kGather) {
      EncodeRows<FormatAround0<4>>(part, cells, staged, refusals);
    } else {
      DecodeRows<BlocksQ4_0>(part, cells, staged);
    }
    return;
  }
  switch (part.vector_bytes) {
    case 16: MoveRows<uint4, kGather>(part, cells, staged); break;
    case 8: MoveRows<uint2, kGather>(part, cells, staged); break;
    case 4: MoveRows<uint32_t, kGather>(part, cells, staged); break;
    case 2: MoveRows<uint16_t, kGather>(part, cells, staged); break;
    default: MoveRows<uint8_t, kGather>(part, cells, staged); break;
  }
}

// All pointers are such as the device reaches: `parts`, of the piece; `cells`, the cells of the sequence; `staged`, the
// piece's bytes.
template <bool kGather>
cudaError_t LaunchMoveCells(const KvPiece& piece, const KvPart* parts, const uint32_t* cells, uint32_t cell_count,
                            uint8_t* staged, uint32_t* refusals, cudaStream_t stream) {
  Launch how;
  how.grid = dim3(piece.groups, static_cast<unsigned>(piece.parts.size()));
  how.block = dim3(kKvThreads);
  how.shared_bytes = kKvBlocksPerGroup * 34;
  how.stream = stream;
  return launch(MoveCells<kGather>, how, parts, cells, cell_count, staged, refusals);
}

}  // namespace coldstart::cuda
