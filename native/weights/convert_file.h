// Files of a model with other types.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "weights/conversion.h"
#include "weights/gpu_quantizer.h"

namespace coldstart {

// Writes one new file for each of the conversion's. `on_progress` gets 0..1 on the calling thread and returns false to
// give up. Whatever is thrown, files that were begun are left behind. `gpu` or nullptr: what quantizes what it can.
// Throws kAborted, kWriteFailed, kLoadFailed, kInvalidGguf, kNumericError, kBackendUnavailable (the GPU failed).
void WriteConversion(const Conversion& conversion, const std::vector<std::string>& paths, size_t threads,
                     GpuQuantizer* gpu, const std::function<bool(float)>& on_progress);

}  // namespace coldstart
