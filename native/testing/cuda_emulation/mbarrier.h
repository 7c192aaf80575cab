// Barriers in shared memory, for the copies that count at them.
#pragma once

#include "cuda/device/shared.cuh"
#include "testing/cuda_emulation/machine.h"

namespace coldstart::cuda::emulation {

// The barrier there, if the running thread may use it: `from_afar` for a copy.
PhaseBarrier& BarrierAt(SharedAddress address, bool from_afar);
void AdvanceIfComplete(PhaseBarrier* barrier);

}  // namespace coldstart::cuda::emulation
