// What quantizes rows with instructions that not every CPU has. Plain C types only: see lanes/lanes.h.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace coldstart {

// Whole rows of F32 to blocks. `importance`: one weight for each column, or nullptr. What ggml_quantize_chunk() does,
// to the bit.
using QuantizeKernel = void (*)(const float* values, size_t rows, size_t columns, const float* importance,
                                void* target);
// F16 to F32. False if there is a NaN or an infinity.
using WidenKernel = bool (*)(const uint16_t* source, float* target, size_t count);

struct Kernels {
  QuantizeKernel (*quantize)(int type, bool has_importance);  // of that ggml_type, or nullptr
  WidenKernel widen_halves;
};

extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;

}  // namespace coldstart
