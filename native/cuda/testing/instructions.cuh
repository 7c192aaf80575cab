// Does each instruction mean what the comments of cuda/device/ say? Every case runs a small kernel and compares with
// those comments, written out as loops. The same cases run on a GPU (instructions_check.cu) and in the emulation
// (native/testing/cuda_instructions.cc): where both pass, the emulation's meaning is the hardware's.
//
// All numbers are small integers, so that sums are exact in any order.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "cuda/device/async_copy.cuh"
#include "cuda/device/bulk_copy.cuh"
#include "cuda/device/cluster.cuh"
#include "cuda/device/launch.cuh"
#include "cuda/device/mbarrier.cuh"
#include "cuda/device/mma.cuh"
#include "cuda/device/shared.cuh"
#include "cuda/device/wgmma.cuh"

namespace coldstart::cuda::instructions {

// Memory that host and device see.
template <typename T>
class Memory {
 public:
  explicit Memory(size_t count) : count_(count) {
#if defined(__CUDACC__)
    if (cudaMallocManaged(&data_, count * sizeof(T)) != cudaSuccess) abort();
#else
    data_ = static_cast<T*>(std::aligned_alloc(256, (count * sizeof(T) + 255) / 256 * 256));
#endif
    memset(static_cast<void*>(data_), 0xff, count * sizeof(T));
  }
  ~Memory() {
#if defined(__CUDACC__)
    cudaFree(data_);
#else
    std::free(data_);
#endif
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  T* data() { return data_; }
  T& operator[](size_t i) { return data_[i]; }
  size_t size() const { return count_; }

 private:
  size_t count_;
  T* data_ = nullptr;
};

// Of a launch and all before it: "" or what went wrong.
inline std::string Finish(cudaError_t launched) {
#if defined(__CUDACC__)
  if (launched == cudaSuccess) launched = cudaDeviceSynchronize();
#endif
  return launched == cudaSuccess ? "" : std::string("launch: ") + cudaGetErrorString(launched);
}

class Random {
 public:
  explicit Random(uint32_t seed) : state_(seed * 2654435761u + 1) {}
  uint32_t Next() {
    state_ = state_ * 1664525u + 1013904223u;
    return state_ >> 8 ^ state_ << 13;
  }
  int Integer(int least, int most) {
    return least + static_cast<int>(Next() % static_cast<uint32_t>(most - least + 1));
  }

 private:
  uint32_t state_;
};

// A small integer in each of the types.
inline uint16_t HalfBits(int value) {
  const __half half = __float2half_rn(static_cast<float>(value));
  uint16_t bits;
  memcpy(&bits, &half, 2);
  return bits;
}
inline uint16_t BfloatBits(int value) {
  const float wide = static_cast<float>(value);
  uint32_t bits;
  memcpy(&bits, &wide, 4);
  return static_cast<uint16_t>(bits >> 16);
}
inline uint32_t FloatBits(int value) {
  const float wide = static_cast<float>(value);
  uint32_t bits;
  memcpy(&bits, &wide, 4);
  return bits;
}

template <typename A, typename B>
std::string Differs(const char* what, size_t i, A got, B expected) {
  return std::string(what) + " " + std::to_string(i) + ": " + std::to_string(got) + " instead of " +
         std::to_string(expected);
}

}  // namespace coldstart::cuda::instructions

#include "cuda/testing/instructions_async.cuh"
#include "cuda/testing/instructions_warp.cuh"
#include "cuda/testing/instructions_warpgroup.cuh"

namespace coldstart::cuda::instructions {

struct Case {
  const char* name;
  int least_sm;
  std::string (*run)(uint32_t seed);  // "" or what differs
};

inline const Case kCases[] = {
    {"matrices", 75, CheckMatrices},
    {"stored matrices", 90, CheckStoredMatrices},
    {"product F16 k8", 75, CheckProducts<Kind::kF16K8>},
    {"product F16", 75, CheckProducts<Kind::kF16>},
    {"product BF16", 80, CheckProducts<Kind::kBf16>},
    {"product TF32", 80, CheckProducts<Kind::kTf32>},
    {"rounding to TF32", 80, CheckRounding},
    {"asynchronous copies", 80, CheckAsyncCopies},
    {"named barriers", 75, CheckNamedBarriers},
    {"boxes", 90, CheckBoxes},
    {"boxes to a cluster", 90, CheckMulticast},
    {"cluster", 90, CheckCluster},
    {"warpgroup product F16", 90, CheckWarpgroup<WgmmaType::kF16>},
    {"warpgroup product BF16", 90, CheckWarpgroup<WgmmaType::kBf16>},
    {"warpgroup product TF32", 90, CheckWarpgroup<WgmmaType::kTf32>},
};

}  // namespace coldstart::cuda::instructions
