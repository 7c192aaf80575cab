// The emulated side of cuda/device/cluster.cuh; the rest is in barriers.cc.
#pragma once

namespace coldstart::cuda {

template <int kRegisters>
void ReleaseRegisters() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
}
template <int kRegisters>
void AcquireRegisters() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
}

}  // namespace coldstart::cuda
