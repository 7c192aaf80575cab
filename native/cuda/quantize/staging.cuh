// Blocks are 18 to 210 bytes long, which no thread could store well on its own. A thread block therefore makes a
// multiple of eight of them in shared memory, which is a multiple of 16 bytes, and stores that in vectors; loading is
// the same backwards.
#pragma once

#include "cuda/device/platform.cuh"
#include "cuda/device/shared.cuh"

namespace coldstart::cuda {

// Copies `bytes` from the start of shared memory to `target`, aligned to 16 bytes. By all threads of a block, after a
// barrier.
__device__ __forceinline__ void StoreStaged(uint8_t* target, uint32_t bytes) {
  const SharedArray<uint8_t> staged(0);
  const uint32_t vectors = bytes / 16;
  for (uint32_t i = threadIdx.x; i < vectors; i += blockDim.x) {
    reinterpret_cast<uint4*>(target)[i] = staged.load_as<uint4>(16 * i);
  }
  for (uint32_t i = 16 * vectors + threadIdx.x; i < bytes; i += blockDim.x) target[i] = staged.load(i);
}

// The reverse. A barrier must follow.
__device__ __forceinline__ void LoadStaged(const uint8_t* source, uint32_t bytes) {
  const SharedArray<uint8_t> staged(0);
  const uint32_t vectors = bytes / 16;
  for (uint32_t i = threadIdx.x; i < vectors; i += blockDim.x) {
    staged.store_as<uint4>(16 * i, reinterpret_cast<const uint4*>(source)[i]);
  }
  for (uint32_t i = 16 * vectors + threadIdx.x; i < bytes; i += blockDim.x) staged.store(i, source[i]);
}

}  // namespace coldstart::cuda
