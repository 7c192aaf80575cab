#include "loading/adapter.h"

#include <shared_mutex>
#include <string_view>
#include <unordered_map>

#include "backends/log.h"
#include "backends/plugins.h"
#include "base/error.h"

namespace coldstart {

namespace {

constexpr std::string_view kA = ".lora_a";
constexpr std::string_view kB = ".lora_b";

struct Pair {
  const GgufTensor* a = nullptr;
  const GgufTensor* b = nullptr;
};

[[noreturn]] void Refuse(ErrorCode code, const std::string& path, const std::string& what, const std::string& remedy) {
  throw Error(code, path + " " + what + ".", remedy, {{"path", path}});
}

std::unordered_map<std::string, Pair> Pairs(const std::string& path, const GgufFile& adapter) {
  std::unordered_map<std::string, Pair> pairs;
  for (const GgufTensor& tensor : adapter.tensors) {
    const std::string_view name = tensor.name;
    if (name.ends_with(kA)) {
      pairs[std::string(name.substr(0, name.size() - kA.size()))].a = &tensor;
    } else if (name.ends_with(kB)) {
      pairs[std::string(name.substr(0, name.size() - kB.size()))].b = &tensor;
    } else if (!name.ends_with("_norm.weight")) {  // llama.cpp leaves these alone
      Refuse(ErrorCode::kUnsupportedModel, path, "has the tensor " + tensor.name + ", which is no part of an adapter",
             "Convert the adapter again, with convertAdapter().");
    }
  }
  return pairs;
}

int64_t Extent(const GgufTensor& tensor, size_t dimension) {
  return dimension < tensor.shape.size() ? tensor.shape[dimension] : 1;
}

bool Fits(const std::string& name, const Pair& pair, const GgufTensor& model) {
  const GgufTensor& a = *pair.a;
  const GgufTensor& b = *pair.b;
  // Rows of the embedding are chosen, and not multiplied.
  if (name == "token_embd.weight") {
    return Extent(model, 0) == Extent(b, 1) && Extent(model, 1) == Extent(a, 1) && Extent(a, 0) == Extent(b, 0);
  }
  return Extent(model, 0) == Extent(a, 0) && Extent(model, 1) == Extent(b, 1) && Extent(a, 1) == Extent(b, 0) &&
         Extent(model, 2) == Extent(a, 2) && Extent(model, 2) == Extent(b, 2);
}

}  // namespace

void CheckAdapter(const std::string& path, const GgufFile& model) {
  const GgufFile adapter = ReadGguf(*OpenFile(path));
  if (adapter.String("general.type") != "adapter" || adapter.String("adapter.type") != "lora") {
    Refuse(ErrorCode::kUnsupportedModel, path, "is no LoRA adapter",
           "Give a GGUF adapter; convertAdapter() makes one of a folder in PEFT's layout.");
  }
  const std::string architecture = adapter.String("general.architecture");
  const std::string expected = model.String("general.architecture");
  constexpr const char* kOtherBase = "Load the model that the adapter was trained on.";
  if (architecture != expected) {
    Refuse(ErrorCode::kUnsupportedModel, path,
           "is an adapter for the architecture '" + architecture + "', and the model's is '" + expected + "'",
           kOtherBase);
  }
  if (adapter.Find("adapter.alora.invocation_tokens") != nullptr) {
    Refuse(ErrorCode::kUnsupportedModel, path, "is an adapter that only works after certain tokens (aLoRA)",
           "Use an adapter that works from the beginning.");
  }
  std::unordered_map<std::string_view, const GgufTensor*> tensors;
  for (const GgufTensor& tensor : model.tensors) tensors.emplace(tensor.name, &tensor);
  const std::unordered_map<std::string, Pair> pairs = Pairs(path, adapter);
  if (pairs.empty()) Refuse(ErrorCode::kInvalidGguf, path, "has no matrices", "Convert the adapter again.");
  for (const auto& [name, pair] : pairs) {
    if (pair.a == nullptr || pair.b == nullptr) {
      Refuse(ErrorCode::kInvalidGguf, path, "has only one of the two matrices for " + name, "Convert it again.");
    }
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      Refuse(ErrorCode::kUnsupportedModel, path, "is for " + name + ", which the model does not have", kOtherBase);
    }
    if (!Fits(name, pair, *found->second)) {
      Refuse(ErrorCode::kUnsupportedModel, path, "has matrices for " + name + " of other shapes than the model's",
             kOtherBase);
    }
  }
}

Adapters::Adapters(llama_model* model, const std::vector<AdapterOptions>& options) {
  for (const AdapterOptions& adapter : options) {
    const std::shared_lock registry(BackendRegistryMutex());
    const LogCapture log;
    llama_adapter_lora* loaded = llama_adapter_lora_init(model, adapter.path.c_str());
    if (loaded == nullptr) {
      const std::string why = log.Errors();
      const bool memory = why.find("allocate") != std::string::npos;
      throw Error(memory ? ErrorCode::kOutOfMemory : ErrorCode::kLoadFailed,
                  "The adapter " + adapter.path + " could not be loaded: " + why + ".",
                  memory ? "Use fewer gpuLayers or a shorter contextLength." : "Check that the file is complete.",
                  {{"path", adapter.path}});
    }
    adapters_.push_back(loaded);
    scales_.push_back(adapter.scale);
  }
}

void Adapters::Use(llama_context* context) const {
  if (adapters_.empty()) return;
  auto adapters = adapters_;
  llama_set_adapters_lora(context, adapters.data(), adapters.size(), scales_.data());
}

}  // namespace coldstart
