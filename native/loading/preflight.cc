#include "loading/preflight.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

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

// The paths of the other parts of a split model.
std::vector<std::string> OtherParts(const std::string& path, const GgufFile& first) {
  const uint64_t count = first.Unsigned("split.count", 1);
  if (count <= 1) return {};
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
  std::vector<std::string> paths;
  for (int32_t i = 1; i < static_cast<int32_t>(count); ++i) {
    std::array<char, 4096> part{};
    llama_split_path(part.data(), part.size(), prefix.data(), i, static_cast<int32_t>(count));
    paths.emplace_back(part.data());
  }
  return paths;
}

std::unordered_set<std::string> TensorNames(const std::string& path, const GgufFile& first) {
  std::unordered_set<std::string> names;
  for (const GgufTensor& tensor : first.tensors) names.insert(tensor.name);
  for (const std::string& part : OtherParts(path, first)) {
    for (GgufTensor& tensor : ReadGguf(*OpenFile(part), 0).tensors) names.insert(std::move(tensor.name));
  }
  return names;
}

uint64_t MtpLayers(const GgufFile& file) {
  return file.Unsigned(file.String("general.architecture") + ".nextn_predict_layers", 0);
}

// What the graph of an architecture's heads wants beyond the tensors that all have (src/models of llama.cpp). The
// others have no such graph, or need a memory that tokens cannot be taken back from.
struct MtpNeeds {
  std::string_view architecture;
  bool several;  // more layers than one
  std::vector<std::string_view> tensors;
};

const std::vector<MtpNeeds>& AllMtpNeeds() {
  static const std::vector<MtpNeeds> needs = {
      {"bailingmoe3", false, {"layer_output_norm"}},
      {"cohere2moe", false, {"ffn_gate_inp"}},
      {"deepseek2",
       false,
       {"attn_q_a", "attn_q_a_norm", "attn_q_b", "attn_kv_a_mqa", "attn_kv_a_norm", "attn_k_b", "ffn_norm",
        "ffn_gate_inp", "ffn_down_exps", "ffn_gate_shexp", "ffn_down_shexp", "ffn_up_shexp"}},
      {"deepseek32", false, {"ffn_gate_inp"}},
      {"glm-dsa", false, {"ffn_gate_inp"}},
      {"glm4moe", false, {"ffn_gate_inp"}},
      {"hy_v3", true, {}},
      {"mimo2", true, {"attn_qkv", "ffn_gate", "ffn_down", "ffn_up"}},
      {"nemotron_h_moe", false, {"nextn.shared_head_norm", "ffn_gate_inp"}},
      {"qwen35", false, {}},
      {"qwen35moe", false, {"ffn_gate_inp"}},
      {"step35", true, {}},
  };
  return needs;
}

}  // namespace

GgufFile CheckModelFiles(const std::string& path) {
  GgufFile file = ReadGguf(*OpenFile(path), kShownArrayElements, kTokensKey);
  CheckArchitecture(file);
  CheckHyperparameters(file);
  CheckVocabulary(file);
  for (const std::string& part : OtherParts(path, file)) ReadGguf(*OpenFile(part), 0);
  // llama.cpp loads the heads of a model that are a file of their own, and computes with layers that are not there.
  if (MtpLayers(file) > 0 && !TensorNames(path, file).contains("blk.0.attn_norm.weight")) {
    throw Error(ErrorCode::kUnsupportedModel,
                "This file has only a model's heads for multi-token prediction, not its other layers.",
                "Load the model itself; with speculative { type: \"mtp\" }, one that contains its heads.",
                {{"path", path}});
  }
  return file;
}

void CheckMtp(const std::string& path, const GgufFile& file) {
  const std::string architecture = file.String("general.architecture");
  const auto fail = [&](const std::string& what, const std::string& remedy) {
    throw Error(ErrorCode::kUnsupportedModel, what, remedy, {{"path", path}, {"architecture", architecture}});
  };
  const std::string other = "Use speculative { type: \"lookup\" } or { type: \"draft\" }, or none.";
  const uint64_t heads = MtpLayers(file);
  if (heads == 0) {
    fail("This model has no heads for multi-token prediction: its metadata has no " + architecture +
             ".nextn_predict_layers.",
         "Use a file that was converted with them, if the model was trained with any. " + other);
  }
  const auto& all = AllMtpNeeds();
  const auto needs =
      std::find_if(all.begin(), all.end(), [&](const MtpNeeds& one) { return one.architecture == architecture; });
  if (needs == all.end()) {
    fail("llama.cpp " + std::string(llama_version()) +
             " cannot use the heads for multi-token prediction of models of the architecture '" + architecture + "'.",
         other);
  }
  if (heads > 1 && !needs->several) {
    fail("llama.cpp can use one head for multi-token prediction of models of the architecture '" + architecture +
             "', and this one has " + std::to_string(heads) + ".",
         other);
  }
  if (architecture == "deepseek2" && file.Find("deepseek2.attention.temperature_scale") != nullptr) {
    fail("llama.cpp cannot use heads for multi-token prediction with attention.temperature_scale.", other);
  }
  const std::unordered_set<std::string> names = TensorNames(path, file);
  const uint64_t layers = file.Unsigned(architecture + ".block_count", 0);
  std::vector<std::string_view> wanted = {"nextn.eh_proj", "nextn.enorm", "nextn.hnorm"};
  wanted.insert(wanted.end(), needs->tensors.begin(), needs->tensors.end());
  for (uint64_t layer = layers - std::min(heads, layers); layer < layers; ++layer) {
    for (const std::string_view tensor : wanted) {
      const std::string name = "blk." + std::to_string(layer) + "." + std::string(tensor) + ".weight";
      if (names.contains(name)) continue;
      fail("The file says that the model has heads for multi-token prediction, and the tensor " + name +
               " is not in it.",
           "Use a file that was converted with them. " + other);
    }
  }
}

}  // namespace coldstart
