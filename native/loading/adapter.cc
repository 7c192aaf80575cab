#include "loading/adapter.h"

#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <string_view>
#include <unordered_map>

#include "backends/log.h"
#include "backends/plugins.h"
#include "base/error.h"
#include "base/file.h"

namespace coldstart {

namespace {

constexpr std::string_view kA = ".lora_a";
constexpr std::string_view kB = ".lora_b";
constexpr std::string_view kDirection = "direction.";
constexpr const char* kControlVector = "controlvector";  // their "architecture"
constexpr const char* kOtherBase = "Load the model that the adapter was made for.";

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

void CheckArchitecture(const std::string& path, const std::string& is_for, const GgufFile& model) {
  const std::string expected = model.String("general.architecture");
  if (is_for == expected) return;
  Refuse(ErrorCode::kUnsupportedModel, path,
         "is an adapter for the architecture '" + is_for + "', and the model's is '" + expected + "'", kOtherBase);
}

// The layer that a control vector's tensor is about; nothing when its name is of another form.
std::optional<uint64_t> LayerOf(const GgufTensor& tensor) {
  const std::string_view name = tensor.name;
  if (!name.starts_with(kDirection)) return std::nullopt;
  uint64_t layer = 0;
  const char* const end = name.data() + name.size();
  const auto [parsed, error] = std::from_chars(name.data() + kDirection.size(), end, layer);
  return error == std::errc() && parsed == end ? std::optional(layer) : std::nullopt;
}

void CheckControlVector(const std::string& path, const GgufFile& adapter, const GgufFile& model) {
  const std::string architecture = model.String("general.architecture");
  CheckArchitecture(path, adapter.String("controlvector.model_hint", architecture), model);
  const auto width = static_cast<int64_t>(model.Unsigned(architecture + ".embedding_length", 0));
  const uint64_t layers = model.Unsigned(architecture + ".block_count", 0);
  if (adapter.tensors.empty()) Refuse(ErrorCode::kInvalidGguf, path, "has no directions", "Make it again.");
  for (const GgufTensor& tensor : adapter.tensors) {
    const std::optional<uint64_t> layer = LayerOf(tensor);
    if (!layer || tensor.type_id != GGML_TYPE_F32 || Extent(tensor, 1) != 1 || Extent(tensor, 2) != 1) {
      Refuse(ErrorCode::kUnsupportedModel, path, "has the tensor " + tensor.name + ", which is no control vector's",
             "Use one that llama-cvector-generator makes: direction.1, direction.2, … of F32.");
    }
    if (*layer == 0 || *layer >= layers || Extent(tensor, 0) != width) {
      Refuse(ErrorCode::kUnsupportedModel, path,
             "has " + std::to_string(Extent(tensor, 0)) + " numbers for layer " + std::to_string(*layer) +
                 ", and the model has the layers 1 to " + std::to_string(layers - 1) + " after the first, of " +
                 std::to_string(width),
             kOtherBase);
    }
  }
}

void CheckLora(const std::string& path, const GgufFile& adapter, const GgufFile& model) {
  CheckArchitecture(path, adapter.String("general.architecture"), model);
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

std::vector<float> ReadDirections(const std::string& path, const GgufFile& header) {
  const std::optional<File> file = File::Open(path);
  std::vector<float> directions;
  for (const GgufTensor& tensor : header.tensors) {
    const auto width = static_cast<size_t>(tensor.shape.front());
    const size_t begin = (*LayerOf(tensor) - 1) * width;
    directions.resize(std::max(directions.size(), begin + width));
    const auto read =
        file ? file->ReadAt(directions.data() + begin, width * sizeof(float), header.data_offset + tensor.offset)
             : std::nullopt;
    if (read != width * sizeof(float)) {
      throw Error(ErrorCode::kLoadFailed, path + " could not be read: " + File::LastError() + ".",
                  "Check that the file is complete.", {{"path", path}});
    }
  }
  return directions;
}

}  // namespace

GgufFile CheckAdapter(const std::string& path, const GgufFile& model) {
  GgufFile adapter = ReadGguf(*OpenFile(path));
  if (adapter.String("general.architecture") == kControlVector) {
    CheckControlVector(path, adapter, model);
  } else if (adapter.String("general.type") == "adapter" && adapter.String("adapter.type") == "lora") {
    CheckLora(path, adapter, model);
  } else {
    Refuse(ErrorCode::kUnsupportedModel, path, "is no LoRA adapter and no control vector",
           "Give a GGUF adapter; convertAdapter() makes one of a folder in PEFT's layout.");
  }
  return adapter;
}

Adapter::Adapter(llama_model* model, const std::string& path, const GgufFile& header) : bytes_(header.TensorBytes()) {
  if (header.String("general.architecture") == kControlVector) {
    directions_ = ReadDirections(path, header);
    return;
  }
  const std::shared_lock registry(BackendRegistryMutex());
  const LogCapture log;
  lora_ = llama_adapter_lora_init(model, path.c_str());
  if (lora_ != nullptr) return;
  const std::string why = log.Errors();
  const bool memory = why.find("allocate") != std::string::npos;
  throw Error(memory ? ErrorCode::kOutOfMemory : ErrorCode::kLoadFailed,
              "The adapter " + path + " could not be loaded: " + why + ".",
              memory ? "Use fewer gpuLayers or a shorter contextLength." : "Check that the file is complete.",
              {{"path", path}});
}

Adapter::~Adapter() {
  if (lora_ != nullptr) llama_adapter_lora_free(lora_);
}

}  // namespace coldstart
