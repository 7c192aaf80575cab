// Copies from global to shared memory that run on while the thread goes on (cp.async, sm_80).
//
// Source: PTX ISA 9.0, "cp.async".
#pragma once

#include "cuda/device/platform.cuh"
#include "cuda/device/shared.cuh"

namespace coldstart::cuda {

// Starts a copy of 16 bytes (8, 4), of which the first `valid` come from `from` and the rest are zeros. `valid` is 0 to
// 16 (8, 4); with 0, `from` is not read. Both addresses are multiples of 16 (8, 4). What is copied may appear in shared
// memory at any time from now on, and is there for this thread after CopyAsyncWait, for others after a barrier that
// follows it.
__device__ void CopyAsync16(SharedAddress to, const void* from, uint32_t valid);
__device__ void CopyAsync8(SharedAddress to, const void* from, uint32_t valid);
__device__ void CopyAsync4(SharedAddress to, const void* from, uint32_t valid);

// Ends this thread's current group of copies: those started since the last call. A group may be empty.
__device__ void CopyAsyncCommit();

// Waits until at most the kPending groups committed last by this thread are unfinished.
template <int kPending>
__device__ void CopyAsyncWait();

}  // namespace coldstart::cuda

#if !defined(__CUDACC__)
#include "emulation_async_copy.h"
#else

namespace coldstart::cuda {

__device__ inline void CopyAsync16(SharedAddress to, const void* from, uint32_t valid) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid) : "memory");
#endif
}

__device__ inline void CopyAsync8(SharedAddress to, const void* from, uint32_t valid) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(to), "l"(from), "r"(valid) : "memory");
#endif
}

__device__ inline void CopyAsync4(SharedAddress to, const void* from, uint32_t valid) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(valid) : "memory");
#endif
}

__device__ inline void CopyAsyncCommit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int kPending>
__device__ inline void CopyAsyncWait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

}  // namespace coldstart::cuda
#endif
