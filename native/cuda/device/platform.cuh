// What every kernel includes first: CUDA's own names when nvcc compiles it, and the same names by the emulation when a
// C++ compiler does, which is how kernels are tested on a machine without a GPU
// (native/testing/cuda_emulation/emulation.h, found by the include path of the tests).
#pragma once

#if defined(__CUDACC__)

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#else

#include "emulation.h"  // NOLINT(build/include_subdir)

#endif
