#include "loading/preflight.h"

#include <array>

#include "base/error.h"
#include "llama.h"
#include "loading/architectures.h"

namespace coldstart {

namespace {

void CheckArchitecture(const GgufFile& file) {
  const std::string architecture = file.String("general.architecture");
  if (architecture.empty()) {
    throw Error(ErrorCode::kInvalidGguf, "The file's metadata does not say general.architecture.",
                "Convert the model again with llama.cpp's tools.");
  }
  if (!IsKnownArchitecture(architecture)) {
    throw Error(
        ErrorCode::kUnsupportedModel,
        "The model's architecture is '" + architecture + "', which llama.cpp " + llama_version() + " cannot run.",
        architecture == "clip" ? "This file is an image projector; load the language model it belongs to."
                               : "Use a newer coldstart, or another model.",
        {{"architecture", architecture}});
  }
}

// The other parts of a split model.
void CheckSplits(const std::string& path, const GgufFile& first) {
  const uint64_t count = first.Unsigned("split.count", 1);
  if (count <= 1) return;
  std::array<char, 4096> prefix{};
  const int32_t length =
      count > 99'999 ? 0
                     : llama_split_prefix(prefix.data(), prefix.size(), path.c_str(), 0, static_cast<int32_t>(count));
  if (length <= 0) {
    throw Error(
        ErrorCode::kModelNotFound,
        path + " is one part of a model split into " + std::to_string(count) + " files, and not the first by its name.",
        "Give the path of the first part, whose name ends in -00001-of-<count>.gguf.",
        {{"path", path}, {"parts", static_cast<double>(count)}});
  }
  for (int32_t i = 1; i < static_cast<int32_t>(count); ++i) {
    std::array<char, 4096> part{};
    llama_split_path(part.data(), part.size(), prefix.data(), i, static_cast<int32_t>(count));
    ReadGguf(*OpenFile(part.data()), 0);
  }
}

}  // namespace

GgufFile CheckModelFiles(const std::string& path) {
  GgufFile file = ReadGguf(*OpenFile(path), kShownArrayElements);
  CheckArchitecture(file);
  CheckSplits(path, file);
  return file;
}

}  // namespace coldstart
