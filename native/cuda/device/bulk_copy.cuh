// Copies of boxes of a tensor between global and shared memory by the copy engine of an SM (cp.async.bulk.tensor,
// sm_90).
//
// A TensorMap describes the tensor and the box; the host makes it (tensor_map.h). Here all tensors have three
// dimensions, the first contiguous. A box starts at coordinates of elements, which may be negative or beyond the end,
// and at a multiple of 16 bytes of its row: loads bring zeros for elements outside the tensor (and count their bytes),
// stores leave them out. But stores write whole pieces of 16 bytes: where a row of the tensor is no multiple of 16
// bytes, what lies between its end and the next multiple is overwritten too (an H200 does so), so tensors that are
// stored to have rows that are.
//
// A box lies in shared memory with its first dimension contiguous, rows one after another. With the 128-byte swizzle,
// in which the box's rows are 128 bytes long and the box starts at a multiple of 1024, the 16-byte piece p of row r
// lies where piece p ^ (r % 8) of that row would lie without.
//
// Source: PTX ISA 9.0, "cp.async.bulk.tensor"; "Tensor swizzling modes".
#pragma once

#include "cuda/device/platform.cuh"
#include "cuda/device/shared.cuh"
#include "cuda/device/tensor_map.h"

namespace coldstart::cuda {

// Starts a copy of a box to shared memory `to`; its bytes count at `barrier`, whose phase has to expect them. By one
// thread.
__device__ void LoadBox(SharedAddress to, const TensorMap* map, SharedAddress barrier, int x, int y, int z);

// The same to each block of the cluster whose rank is a bit of `ranks`: to the same offset of its shared memory, with
// the bytes counting at the barrier at the same offset there. sm_90a.
__device__ void LoadBoxMulticast(SharedAddress to, const TensorMap* map, SharedAddress barrier, int x, int y, int z,
                                 uint16_t ranks);

// Starts a copy of a box from shared memory. What ordinary stores wrote there is seen if FenceAsyncProxy by the threads
// that wrote, then a barrier, came before.
__device__ void StoreBox(const TensorMap* map, SharedAddress from, int x, int y, int z);

// Ends this thread's current group of stores, waits until at most kPending groups have not yet read all of their shared
// memory (which may then be written again), or have not finished.
__device__ void StoreBoxCommit();
template <int kPending>
__device__ void StoreBoxWaitRead();
template <int kPending>
__device__ void StoreBoxWait();

// Orders this thread's ordinary accesses to shared memory before later ones of the asynchronous proxy (bulk copies,
// wgmma).
__device__ void FenceAsyncProxy();

// Brings the map itself near. No effect on what is computed.
__device__ void PrefetchTensorMap(const TensorMap* map);

}  // namespace coldstart::cuda

#if !defined(__CUDACC__)
#include "emulation_bulk_copy.h"
#else

namespace coldstart::cuda {

#if __CUDA_ARCH__ >= 900

__device__ inline void LoadBox(SharedAddress to, const TensorMap* map, SharedAddress barrier, int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], "
      "[%2];" ::"r"(to),
      "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z)
      : "memory");
}

__device__ inline void LoadBoxMulticast(SharedAddress to, const TensorMap* map, SharedAddress barrier, int x, int y,
                                        int z, uint16_t ranks) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
      " [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(to),
      "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z), "h"(ranks)
      : "memory");
#endif
}

__device__ inline void StoreBox(const TensorMap* map, SharedAddress from, int x, int y, int z) {
  asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(map),
               "r"(from), "r"(x), "r"(y), "r"(z)
               : "memory");
}

__device__ inline void StoreBoxCommit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

template <int kPending>
__device__ inline void StoreBoxWaitRead() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}

template <int kPending>
__device__ inline void StoreBoxWait() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kPending) : "memory");
}

__device__ inline void FenceAsyncProxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ inline void PrefetchTensorMap(const TensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

#else
__device__ inline void LoadBox(SharedAddress, const TensorMap*, SharedAddress, int, int, int) {}
__device__ inline void LoadBoxMulticast(SharedAddress, const TensorMap*, SharedAddress, int, int, int, uint16_t) {}
__device__ inline void StoreBox(const TensorMap*, SharedAddress, int, int, int) {}
__device__ inline void StoreBoxCommit() {}
template <int kPending>
__device__ inline void StoreBoxWaitRead() {}
template <int kPending>
__device__ inline void StoreBoxWait() {}
__device__ inline void FenceAsyncProxy() {}
__device__ inline void PrefetchTensorMap(const TensorMap*) {}
#endif

}  // namespace coldstart::cuda
#endif
