#include "loading/mtp_check.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "llama.h"

namespace coldstart {

namespace {

std::unordered_set<std::string> TensorNames(const GgufFile& file) {
  std::unordered_set<std::string> names;
  for (const GgufTensor& tensor : file.tensors) names.insert(tensor.name);
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

void CheckHasTrunk(const GgufFile& file) {
  if (MtpLayers(file) == 0 || TensorNames(file).contains("blk.0.attn_norm.weight")) return;
  throw Error(ErrorCode::kUnsupportedModel,
              "This file has only a model's heads for multi-token prediction, not its other layers.",
              "Load the model itself; with speculative { type: \"mtp\" }, one that contains its heads.");
}

void CheckMtp(const GgufFile& file) {
  const std::string architecture = file.String("general.architecture");
  const auto fail = [&](const std::string& what, const std::string& remedy) {
    throw Error(ErrorCode::kUnsupportedModel, what, remedy, {{"architecture", architecture}});
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
  const std::unordered_set<std::string> names = TensorNames(file);
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
