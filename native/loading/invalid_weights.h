// Weights that no model has on purpose: NaN and infinities.
//
// Pure: bytes to a number. Of ggml it uses what it knows of tensor types.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "ggml.h"

namespace coldstart {

// The first weight that is NaN or infinite; of quantized types one whose scale makes it so. `bytes` are whole blocks,
// aligned as the type wants it. Nothing is found in integers, nor in types that ggml keeps for itself and never writes.
std::optional<size_t> FindInvalidWeight(ggml_type type, std::span<const uint8_t> bytes);

}  // namespace coldstart
