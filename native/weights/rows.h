// Rows of weights from one of ggml's types to another, by whatever is fastest on this CPU. The bits are those that
// ggml_quantize_chunk() writes, so that a file is the same wherever it was made.
#pragma once

#include <cstdint>
#include <vector>

#include "ggml.h"

namespace coldstart {

enum class Instructions { kAny, kAvx2, kAvx512 };

// What this CPU has, of that which there is code for.
Instructions BestInstructions();
// All that this CPU has, kAny included.
std::vector<Instructions> AvailableInstructions();

// True when the type can be read as F32.
bool CanWiden(ggml_type type);
// `count` elements as F32; whole blocks. False if there is a NaN or an infinity (of quantized types: in a scale).
bool WidenRow(ggml_type type, const void* source, float* target, int64_t count,
              Instructions instructions = BestInstructions());

// Whole rows to `type`, which may also be F32, F16 or BF16. `importance` has a weight for each column, or is nullptr.
// False if the values are out of the type's range; the blocks are then unusable, or not written.
bool QuantizeRows(ggml_type type, const float* values, int64_t rows, int64_t columns, const float* importance,
                  void* target, Instructions instructions = BestInstructions());

}  // namespace coldstart
