#include "loading/preflight.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "llama.h"
#include "loading/architectures.h"
#include "loading/mtp_check.h"

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

// The values that llama.cpp asserts instead of refusing.
void CheckHyperparameters(const GgufFile& file) {
  constexpr uint64_t kMaxLayers = 512;  // LLAMA_MAX_LAYERS
  const std::string prefix = file.String("general.architecture") + ".";
  const auto fail = [](const std::string& key, const std::string& value, const std::string& expected) {
    throw Error(ErrorCode::kUnsupportedModel, "The model's " + key + " is " + value + ", and must be " + expected + ".",
                "The file is damaged or was converted wrongly; convert or download it again.", {{"key", key}});
  };
  const std::string layers_key = prefix + "block_count";
  const uint64_t layers = file.Unsigned(layers_key, 1);
  if (layers == 0 || layers > kMaxLayers)
    fail(layers_key, std::to_string(layers), "from 1 to " + std::to_string(kMaxLayers));
  for (const char* name : {"attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon"}) {
    const GgufValue* value = file.Find(prefix + name);
    const double* epsilon = value == nullptr ? nullptr : std::get_if<double>(value);
    if (epsilon != nullptr && !(*epsilon >= 0)) fail(prefix + name, std::to_string(*epsilon), "at least 0");
  }
}

// Buffers begin where the file has the first tensor, and ggml asserts that this is a multiple of TENSOR_ALIGNMENT.
void CheckAlignment(const GgufFile& file) {
  constexpr uint64_t kLeast = 32;
  if (file.alignment >= kLeast) return;
  throw Error(ErrorCode::kUnsupportedModel,
              "The file's general.alignment is " + std::to_string(file.alignment) + ", and llama.cpp needs at least " +
                  std::to_string(kLeast) + ".",
              "Set it with editMetadata() or `coldstart edit`, which moves the weights.",
              {{"alignment", static_cast<double>(file.alignment)}});
}

constexpr const char* kTokensKey = "tokenizer.ggml.tokens";

// llama.cpp asserts that no token occurs twice. Cuts the list to what is shown.
void CheckVocabulary(GgufFile& file) {
  GgufArray* tokens = file.Array(kTokensKey);
  if (tokens == nullptr) return;
  std::unordered_set<std::string_view> seen;
  seen.reserve(tokens->elements.size());
  for (size_t i = 0; i < tokens->elements.size(); ++i) {
    const auto* text = std::get_if<std::string>(&tokens->elements[i]);
    if (text == nullptr) break;  // llama.cpp refuses a list of another type
    // It gives empty ones a name of their own.
    if (!text->empty() && !seen.insert(*text).second) {
      throw Error(ErrorCode::kUnsupportedModel,
                  "Token " + std::to_string(i) + " of the model's vocabulary has the text of another token.",
                  "The file is damaged or was converted wrongly; convert or download it again.",
                  {{"token", static_cast<double>(i)}, {"text", *text}});
    }
  }
  tokens->elements.resize(std::min<size_t>(tokens->elements.size(), kShownArrayElements));
  tokens->elements.shrink_to_fit();
}

}  // namespace

std::vector<std::string> PartPaths(const std::string& path, const GgufFile& first) {
  const uint64_t count = first.Unsigned("split.count", 1);
  if (count <= 1) return {path};
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
  std::vector<std::string> paths{path};
  for (int32_t i = 1; i < static_cast<int32_t>(count); ++i) {
    std::array<char, 4096> part{};
    llama_split_path(part.data(), part.size(), prefix.data(), i, static_cast<int32_t>(count));
    paths.emplace_back(part.data());
  }
  return paths;
}

void CheckHeader(const GgufFile& file) {
  CheckArchitecture(file);
  CheckHyperparameters(file);
  CheckAlignment(file);
}

GgufFile CheckModelHeader(std::string_view header) {
  GgufFile file = ReadGguf(*OpenMemory(header),
                           {.array_elements = kShownArrayElements, .whole_array = kTokensKey, .header_only = true});
  CheckHeader(file);
  CheckVocabulary(file);
  CheckHasTrunk(file);
  return file;
}

GgufFile CheckModelFiles(const std::string& path) {
  GgufFile file = ReadGguf(*OpenFile(path), {.array_elements = kShownArrayElements, .whole_array = kTokensKey});
  CheckHeader(file);
  CheckVocabulary(file);
  const std::vector<std::string> parts = PartPaths(path, file);
  for (size_t i = 1; i < parts.size(); ++i) {
    GgufFile part = ReadGguf(*OpenFile(parts[i]));
    CheckAlignment(part);
    std::move(part.tensors.begin(), part.tensors.end(), std::back_inserter(file.tensors));
  }
  CheckHasTrunk(file);
  return file;
}

}  // namespace coldstart
