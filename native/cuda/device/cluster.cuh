// Blocks that run together (clusters, sm_90), barriers among some warps of a block, and registers moved between warps.
//
// Source: PTX ISA 9.0, "barrier.cluster", "mapa", "bar", "setmaxnreg".
#pragma once

#include "cuda/device/platform.cuh"
#include "cuda/device/shared.cuh"

namespace coldstart::cuda {

// This block's rank in its cluster (0 in a launch without), and the number of blocks of a cluster.
__device__ uint32_t ClusterRank();
__device__ uint32_t ClusterSize();

// All threads of all blocks of the cluster arrive, then wait for all others. Release and acquire: shared memory of
// other blocks written before by any is seen after by all. The halves may be apart; every thread does both, in turn.
__device__ void ClusterArrive();
__device__ void ClusterWait();

// Reads four floats (16 bytes, aligned) at the offset of `address` in the shared memory of the block with this rank.
__device__ float4 LoadRemoteFloat4(SharedAddress address, uint32_t rank);

// A barrier of `threads` threads, whole warps, that name the same `id` (1 to 15; 0 is __syncthreads).
__device__ void NamedBarrier(uint32_t id, uint32_t threads);

// Gives registers of this warpgroup away, or waits for them and takes them: afterwards each thread may use kRegisters
// of them, a multiple of 8. By all warps of a warpgroup. No effect on what is computed.
template <int kRegisters>
__device__ void ReleaseRegisters();
template <int kRegisters>
__device__ void AcquireRegisters();

}  // namespace coldstart::cuda

#if !defined(__CUDACC__)
#include "emulation_cluster.h"
#else

namespace coldstart::cuda {

__device__ inline void NamedBarrier(uint32_t id, uint32_t threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

#if __CUDA_ARCH__ >= 900

__device__ inline uint32_t ClusterRank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

__device__ inline uint32_t ClusterSize() {
  uint32_t size;
  asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return size;
}

__device__ inline void ClusterArrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
__device__ inline void ClusterWait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

__device__ inline float4 LoadRemoteFloat4(SharedAddress address, uint32_t rank) {
  float4 value;
  asm volatile(
      "{\n"
      ".reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %4, %5;\n"
      "ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [remote];\n"
      "}"
      : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
      : "r"(address), "r"(rank)
      : "memory");
  return value;
}

#else
__device__ inline uint32_t ClusterRank() { return 0; }
__device__ inline uint32_t ClusterSize() { return 1; }
__device__ inline void ClusterArrive() {}
__device__ inline void ClusterWait() {}
__device__ inline float4 LoadRemoteFloat4(SharedAddress, uint32_t) { return float4{}; }
#endif

template <int kRegisters>
__device__ inline void ReleaseRegisters() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
#endif
}

template <int kRegisters>
__device__ inline void AcquireRegisters() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
#endif
}

}  // namespace coldstart::cuda
#endif
