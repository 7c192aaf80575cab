// The emulated side of cuda/device/wgmma.cuh; the rest is in wgmma.cc.
#pragma once

#include <cstdint>

namespace coldstart::cuda {

namespace emulation {
void StartProduct(float* d, int columns, uint64_t a, uint64_t b, WgmmaType type, bool accumulate);
void WaitForProducts(uint32_t pending);
}  // namespace emulation

template <WgmmaType kType, int kN>
void MultiplyRows(float (&d)[kN / 2], MatrixDescriptor a, MatrixDescriptor b, bool accumulate) {
  static_assert(kN % 8 == 0 && kN >= 8 && kN <= 256);
  emulation::StartProduct(d, kN, a.bits, b.bits, kType, accumulate);
}

template <int kPending>
void WgmmaWait() {
  emulation::WaitForProducts(kPending);
}

}  // namespace coldstart::cuda
