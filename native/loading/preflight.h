// What is checked of a model's files before llama.cpp sees them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "loading/gguf.h"

namespace coldstart {

// Elements of long metadata arrays (vocabularies) that are kept to be shown.
inline constexpr uint64_t kShownArrayElements = 16;

// The files of the model whose first one is at `path`; `first` is its header.
// Throws kModelNotFound when the name is not that of a first part.
std::vector<std::string> PartPaths(const std::string& path, const GgufFile& first);

// Refuses what llama.cpp cannot run or would abort on. Throws kInvalidGguf, kUnsupportedModel.
void CheckHeader(const GgufFile& file);

// Reads the header of the model at `path` and checks it; of a split model also of every other part, which must lie
// beside it under the usual names (x-00001-of-00003.gguf). Returns the first part's header,
// with the tensors of all parts.
// Throws kModelNotFound, kInvalidGguf, kUnsupportedModel.
GgufFile CheckModelFiles(const std::string& path);

// The same of a model that is in no file, by its header.
GgufFile CheckModelHeader(std::string_view header);

}  // namespace coldstart
