// Shared memory, which is always dynamic and always reached through these views, so that the emulation sees every
// access.
//
// A kernel divides its dynamic shared memory by byte offsets from its start, which is aligned to 1024 bytes:
//
//   const SharedArray<__half> a(0);
//   const SharedArray<float> sums(kTileBytes);
//   sums.store(threadIdx.x, value);
//   __syncthreads();
//   const float4 four = sums.load_as<float4>(4 * threadIdx.x);
#pragma once

#include "cuda/device/platform.cuh"

namespace coldstart::cuda {

// A byte in shared memory, as instructions take it: an offset in the shared window of this block, or of another block
// of the cluster when it comes from an instruction that maps there.
using SharedAddress = uint32_t;

}  // namespace coldstart::cuda

#if defined(__CUDACC__)

namespace coldstart::cuda {

extern __shared__ __align__(1024) unsigned char dynamic_shared[];

// The byte at an offset from the start of the block's dynamic shared memory.
__device__ __forceinline__ SharedAddress shared_address(uint32_t byte_offset) {
  return static_cast<SharedAddress>(__cvta_generic_to_shared(dynamic_shared + byte_offset));
}

// A value of this block's shared memory at an address aligned to its size.
template <typename V>
__device__ __forceinline__ V load_shared(SharedAddress address) {
  return *static_cast<const V*>(__cvta_shared_to_generic(address));
}

template <typename V>
__device__ __forceinline__ void store_shared(SharedAddress address, const V& value) {
  *static_cast<V*>(__cvta_shared_to_generic(address)) = value;
}

// A view of T from a byte offset on. All indices count elements of T.
template <typename T>
class SharedArray {
 public:
  __device__ __forceinline__ explicit SharedArray(uint32_t byte_offset) : byte_offset_(byte_offset) {}

  __device__ __forceinline__ T load(uint32_t i) const { return *pointer<T>(i); }
  __device__ __forceinline__ void store(uint32_t i, const T& value) const { *pointer<T>(i) = value; }

  // A vector (float4, uint4, ...) that begins at element i, whose address must be aligned to the vector's size.
  template <typename V>
  __device__ __forceinline__ V load_as(uint32_t i) const {
    return *pointer<V>(i);
  }
  template <typename V>
  __device__ __forceinline__ void store_as(uint32_t i, const V& value) const {
    *pointer<V>(i) = value;
  }

  // Atomic, and ordered with nothing. Returns what was there.
  __device__ __forceinline__ T atomic_add(uint32_t i, T value) const { return atomicAdd(pointer<T>(i), value); }
  __device__ __forceinline__ T atomic_min(uint32_t i, T value) const { return atomicMin(pointer<T>(i), value); }
  __device__ __forceinline__ T atomic_max(uint32_t i, T value) const { return atomicMax(pointer<T>(i), value); }

  __device__ __forceinline__ SharedAddress address(uint32_t i) const {
    return shared_address(byte_offset_ + i * static_cast<uint32_t>(sizeof(T)));
  }
  __device__ __forceinline__ uint32_t byte_offset() const { return byte_offset_; }

 private:
  template <typename V>
  __device__ __forceinline__ V* pointer(uint32_t i) const {
    return reinterpret_cast<V*>(dynamic_shared + byte_offset_ + i * static_cast<uint32_t>(sizeof(T)));
  }

  uint32_t byte_offset_;
};

}  // namespace coldstart::cuda

#else

#include "emulation_shared.h"  // NOLINT(build/include_subdir): the same, with every access checked

#endif
