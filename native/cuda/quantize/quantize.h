// Weights from floats to ggml's blocks and back, on the GPU. All pointers are of device memory, aligned to 16 bytes.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/quantize/types.h"

namespace coldstart::cuda {

// `values` values, whole blocks of `to`, to the bytes that ggml_quantize_chunk() writes without importance. Where ggml
// would write blocks that are of no use (of NaN, infinities, values of 2^32 or more, scales beyond F16), bits of
// RefusalBits are set in *refusals, which is in device memory and zero beforehand, and the blocks are whatever came
// out. `from`: F32, F16 or BF16.
cudaError_t Quantize(WeightType from, WeightType to, const void* source, void* target, int64_t values,
                     uint32_t* refusals, cudaStream_t stream);

// To F32 or F16, to the bit what ggml's to_float makes, then rounded to nearest.
cudaError_t Dequantize(WeightType from, WeightType to, const void* source, void* target, int64_t values,
                       cudaStream_t stream);

}  // namespace coldstart::cuda
