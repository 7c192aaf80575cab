// What is checked of a model's files before llama.cpp sees them.
#pragma once

#include <string>

#include "loading/gguf.h"

namespace coldstart {

// Elements of long metadata arrays (vocabularies) that are kept to be shown.
inline constexpr uint64_t kShownArrayElements = 16;

// Reads the header of the model at `path` and checks it; of a split model also of every other part, which must lie
// beside it under the usual names (x-00001-of-00003.gguf). Returns the first part's header.
// Throws kModelNotFound, kInvalidGguf, kUnsupportedModel.
GgufFile CheckModelFiles(const std::string& path);

// Checks that the model, whose files have passed the check above, has heads for multi-token prediction that llama.cpp
// can run: it asserts that when it computes with them. Throws kUnsupportedModel.
void CheckMtp(const std::string& path, const GgufFile& file);

}  // namespace coldstart
