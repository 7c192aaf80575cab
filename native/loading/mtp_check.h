// Whether a model's heads for multi-token prediction (MTP) are there, and such that llama.cpp can use them.
#pragma once

#include "loading/gguf.h"

namespace coldstart {

// Both take the header of a model's first file with the tensors of all its files.

// llama.cpp loads a file that has only heads, and computes with layers that are not there. Throws kUnsupportedModel.
void CheckHasTrunk(const GgufFile& file);

// Checks that the model, whose files have passed the check above, has heads for multi-token prediction that llama.cpp
// can run: it asserts that when it computes with them. Throws kUnsupportedModel.
void CheckMtp(const GgufFile& file);

}  // namespace coldstart
