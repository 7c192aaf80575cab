// The emulated side of cuda/device/async_copy.cuh; the rest is in async_copy.cc.
#pragma once

#include <cstdint>

namespace coldstart::cuda {

namespace emulation {
void WaitForCopies(uint32_t pending);
}

template <int kPending>
void CopyAsyncWait() {
  emulation::WaitForCopies(kPending);
}

}  // namespace coldstart::cuda
