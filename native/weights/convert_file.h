// Files of a model with other types.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "weights/conversion.h"

namespace coldstart {

// Writes one new file for each of the conversion's. `on_progress` gets 0..1 on the calling thread and returns false to
// give up. Whatever is thrown, files that were begun are left behind.
// Throws kAborted, kWriteFailed, kLoadFailed, kInvalidGguf, kNumericError.
void WriteConversion(const Conversion& conversion, const std::vector<std::string>& paths, size_t threads,
                     const std::function<bool(float)>& on_progress);

}  // namespace coldstart
