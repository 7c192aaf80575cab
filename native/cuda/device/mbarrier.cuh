// Barriers in shared memory (mbarrier, sm_90), eight bytes each, aligned to eight.
//
// A barrier counts arrivals, and the bytes that copies bring. Its current phase completes when as many arrivals as its
// count have come and no announced byte is outstanding; the next phase then begins with the full count. Phases are
// numbered 0, 1, 2, …; what waits names the parity of the phase that shall complete.
//
// Source: PTX ISA 9.0, "mbarrier".
#pragma once

#include "cuda/device/platform.cuh"
#include "cuda/device/shared.cuh"

namespace coldstart::cuda {

// Phase 0 begins, with `count` arrivals for each phase. By one thread; others see it after FenceBarrierInit by that
// thread and then a barrier (of the cluster, where other blocks of the cluster use it).
__device__ void BarrierInit(SharedAddress barrier, uint32_t count);
__device__ void FenceBarrierInit();

// One arrival. Release: what this thread read and wrote before happens before what a thread does that waits for the
// phase.
__device__ void BarrierArrive(SharedAddress barrier);

// Announces `bytes` more that copies will bring in the current phase, and arrives once.
__device__ void BarrierArriveExpect(SharedAddress barrier, uint32_t bytes);

// One arrival at the barrier at the same offset in the shared memory of the block of this cluster with this rank (which
// may be one's own). It orders no ordinary accesses of other blocks: it hands over shared memory that was read and is
// to be overwritten by copies. (A release at the scope of the cluster waits for all of the thread's memory operations,
// a microsecond at each step of a loop.)
__device__ void BarrierArriveAt(SharedAddress barrier, uint32_t rank);

// Waits until the phase with this parity has completed: returns at once when the current phase has the other parity. So
// a wait for parity 1 on a new barrier returns at once. Acquire. The second is at the scope of the cluster, for phases
// to which threads of other blocks arrive.
__device__ void BarrierWait(SharedAddress barrier, uint32_t parity);
__device__ void BarrierWaitCluster(SharedAddress barrier, uint32_t parity);

}  // namespace coldstart::cuda

#if !defined(__CUDACC__)
#include "emulation_mbarrier.h"
#else

namespace coldstart::cuda {

#if __CUDA_ARCH__ >= 900

__device__ inline void BarrierInit(SharedAddress barrier, uint32_t count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

__device__ inline void FenceBarrierInit() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ inline void BarrierArrive(SharedAddress barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ inline void BarrierArriveExpect(SharedAddress barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

__device__ inline void BarrierArriveAt(SharedAddress barrier, uint32_t rank) {
  asm volatile(
      "{\n"
      ".reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n"
      "}" ::"r"(barrier),
      "r"(rank)
      : "memory");
}

__device__ inline void BarrierWait(SharedAddress barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred complete;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 complete, [%0], %1;\n"
      "@complete bra done;\n"
      "bra again;\n"
      "done:\n"
      "}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

__device__ inline void BarrierWaitCluster(SharedAddress barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred complete;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 complete, [%0], %1;\n"
      "@complete bra done;\n"
      "bra again;\n"
      "done:\n"
      "}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

#else
__device__ inline void BarrierInit(SharedAddress, uint32_t) {}
__device__ inline void FenceBarrierInit() {}
__device__ inline void BarrierArrive(SharedAddress) {}
__device__ inline void BarrierArriveExpect(SharedAddress, uint32_t) {}
__device__ inline void BarrierArriveAt(SharedAddress, uint32_t) {}
__device__ inline void BarrierWait(SharedAddress, uint32_t) {}
__device__ inline void BarrierWaitCluster(SharedAddress, uint32_t) {}
#endif

}  // namespace coldstart::cuda
#endif
