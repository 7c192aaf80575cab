// A model whose weights are converted on their way into memory.
#pragma once

#include <functional>

#include "loading/loaded_model.h"
#include "weights/conversion.h"

namespace coldstart {

// Like LoadModel. With a GPU of NVIDIA's among the devices, it quantizes what it can. Beyond what the model itself
// takes, memory is needed for tensors on their way to where they are rearranged or that is not this machine's memory:
// kStagingBytes at a time, or the largest of them.
constexpr uint64_t kStagingBytes = uint64_t{64} << 20;

ModelPtr LoadConverted(const ModelOptions& options, const Conversion& conversion, size_t threads,
                       const std::function<bool(float)>& on_progress);

}  // namespace coldstart
