// Cases of instructions.cuh: products of a warpgroup, of matrices that bulk copies bring.
#pragma once

#include "cuda/testing/instructions.cuh"

namespace coldstart::cuda::instructions {

template <WgmmaType kType>
struct WarpgroupFacts {
  static constexpr uint32_t kElements = kType == WgmmaType::kTf32 ? 32 : 64;  // of a row of 128 bytes
};

// d (64 rows of kN) = a (64 rows of 128 bytes) * b^T (kN rows), twice over: the second time added to the first.
template <WgmmaType kType, int kN>
static __global__ void __launch_bounds__(128)
    MultiplyWarpgroup(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, float* d) {
  constexpr uint32_t kBytesOfA = 64 * 128, kBytesOfB = kN * 128;
  const SharedAddress barrier = shared_address(kBytesOfA + kBytesOfB);
  if (threadIdx.x == 0) {
    BarrierInit(barrier, 1);
    FenceBarrierInit();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    BarrierArriveExpect(barrier, kBytesOfA + kBytesOfB);
    LoadBox(shared_address(0), &a, barrier, 0, 0, 0);
    LoadBox(shared_address(kBytesOfA), &b, barrier, 0, 0, 0);
  }
  BarrierWait(barrier, 0);
  float sums[kN / 2];
  WgmmaFence();
  for (int turn = 0; turn < 2; ++turn) {
#pragma unroll
    for (uint32_t offset = 0; offset < 128; offset += 32) {
      MultiplyRows<kType, kN>(sums, DescribeRows(shared_address(0), offset),
                              DescribeRows(shared_address(kBytesOfA), offset), turn > 0 || offset > 0);
    }
    WgmmaCommit();
  }
  WgmmaWait<0>();
  const int warp = threadIdx.x / 32, group = threadIdx.x % 32 / 4, pair = 2 * (threadIdx.x % 4);
#pragma unroll
  for (int i = 0; i < kN / 8; ++i) {
    for (int j = 0; j < 4; ++j) d[(16 * warp + group + 8 * (j / 2)) * kN + 8 * i + pair + j % 2] = sums[4 * i + j];
  }
}

template <WgmmaType kType, int kN>
std::string CheckWarpgroupOf(Random* random) {
  constexpr uint32_t kElements = WarpgroupFacts<kType>::kElements;
  constexpr bool kWide = kType == WgmmaType::kTf32;
  Memory<unsigned char> a(64 * 128), b(kN * 128);
  Memory<float> d(64 * kN);
  std::vector<int> whole_a(64 * kElements), whole_b(kN * kElements);
  const auto fill = [&](std::vector<int>* whole, unsigned char* bytes) {
    for (size_t i = 0; i < whole->size(); ++i) {
      const int value = (*whole)[i] = random->Integer(1, 9) * (random->Integer(0, 1) == 0 ? 1 : -1);
      const uint32_t word = kWide                       ? FloatBits(value) | (random->Next() & 0x1fff)
                            : kType == WgmmaType::kBf16 ? BfloatBits(value)
                                                        : HalfBits(value);
      memcpy(bytes + i * (kWide ? 4 : 2), &word, kWide ? 4 : 2);
    }
  };
  fill(&whole_a, a.data());
  fill(&whole_b, b.data());
  const TensorElement element = kWide                       ? TensorElement::kF32
                                : kType == WgmmaType::kBf16 ? TensorElement::kBf16
                                                            : TensorElement::kF16;
  TensorMap map_a, map_b;
  if (!MakeTensorMap({element, a.data(), {kElements, 64, 1}, {128, 64 * 128}, {kElements, 64, 1}, true}, &map_a))
    return "no map";
  if (!MakeTensorMap({element, b.data(), {kElements, kN, 1}, {128, kN * 128}, {kElements, kN, 1}, true}, &map_b))
    return "no map";
  const size_t shared = (64 + kN) * 128 + 8;
  const std::string error =
      Finish(launch(MultiplyWarpgroup<kType, kN>, Launch{1, 128, shared}, map_a, map_b, d.data()));
  if (!error.empty()) return error;
  for (uint32_t row = 0; row < 64; ++row) {
    for (uint32_t column = 0; column < kN; ++column) {
      int expected = 0;
      for (uint32_t k = 0; k < kElements; ++k)
        expected += 2 * whole_a[row * kElements + k] * whole_b[column * kElements + k];
      const float got = d[row * kN + column];
      if (got != static_cast<float>(expected)) return Differs("element", row * kN + column, got, expected);
    }
  }
  return "";
}

template <WgmmaType kType>
std::string CheckWarpgroup(uint32_t seed) {
  Random random(seed);
  std::string (*const sizes[])(Random*) = {CheckWarpgroupOf<kType, 16>,  CheckWarpgroupOf<kType, 32>,
                                           CheckWarpgroupOf<kType, 64>,  CheckWarpgroupOf<kType, 96>,
                                           CheckWarpgroupOf<kType, 128>, CheckWarpgroupOf<kType, 192>,
                                           CheckWarpgroupOf<kType, 256>};
  for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); ++i) {
    const std::string error = sizes[i](&random);
    if (!error.empty()) return "size " + std::to_string(i) + ": " + error;
  }
  return "";
}

}  // namespace coldstart::cuda::instructions
