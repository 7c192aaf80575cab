// The emulated side of cuda/device/bulk_copy.cuh; the rest is in bulk_copy.cc.
#pragma once

#include <cstdint>

namespace coldstart::cuda {

namespace emulation {
void WaitForStores(uint32_t pending);
}

// What has been read is also written: the emulation does both when it is first waited for.
template <int kPending>
void StoreBoxWaitRead() {
  emulation::WaitForStores(kPending);
}
template <int kPending>
void StoreBoxWait() {
  emulation::WaitForStores(kPending);
}

}  // namespace coldstart::cuda
