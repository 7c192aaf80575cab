#include "weights/conversion.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "backends/log.h"
#include "base/error.h"
#include "ggml-cpp.h"
#include "gguf.h"
#include "loading/loaded_model.h"
#include "loading/preflight.h"
#include "weights/rows.h"

namespace coldstart {

namespace {

// What llama-quantize has in LLM_KV_QUANTIZE_IMATRIX_*.
void RecordImportance(gguf_context* header, const Recipe& recipe, const Importance& importance) {
  gguf_set_val_str(header, "quantize.imatrix.file", recipe.importance.c_str());
  if (!importance.datasets.empty()) {
    gguf_set_val_str(header, "quantize.imatrix.dataset", importance.datasets[0].c_str());
  }
  gguf_set_val_u32(header, "quantize.imatrix.entries_count", static_cast<uint32_t>(importance.matrices.size()));
  gguf_set_val_u32(header, "quantize.imatrix.chunks_count", static_cast<uint32_t>(importance.chunks));
}

// The source's files as ggml reads their headers.
class Headers {
 public:
  explicit Headers(const std::vector<std::string>& paths) {
    for (const std::string& path : paths) {
      ggml_context* tensors = nullptr;
      gguf_context_ptr header(gguf_init_from_file(path.c_str(), {.no_alloc = true, .ctx = &tensors}));
      tensors_.emplace_back(tensors);
      if (header == nullptr) {
        throw Error(ErrorCode::kInvalidGguf, path + " cannot be read as GGUF.", "Convert or download it again.",
                    {{"path", path}});
      }
      headers_.push_back(std::move(header));
    }
  }

  const gguf_context* first() const { return headers_[0].get(); }
  const ggml_tensor* Tensor(size_t part, const std::string& name) const {
    return ggml_get_tensor(tensors_[part].get(), name.c_str());
  }

 private:
  std::vector<gguf_context_ptr> headers_;
  std::vector<ggml_context_ptr> tensors_;
};

// What the mixture would not do, or do badly. Throws kInvalidOption.
void CheckTensor(const ConvertedTensor& tensor, const Recipe& recipe) {
  if (tensor.from == tensor.to) return;
  if (!CanWiden(tensor.from)) {
    throw Error(ErrorCode::kUnsupportedModel,
                tensor.name + " is of type " + ggml_type_name(tensor.from) + ", which cannot be converted.",
                "Start from a file of another type.", {{"tensor", tensor.name}});
  }
  if (ggml_is_quantized(tensor.from) && tensor.from != GGML_TYPE_Q8_0 && !recipe.requantize) {
    throw Error(ErrorCode::kInvalidOption,
                tensor.name + " is quantized already, as " + ggml_type_name(tensor.from) +
                    ": to quantize it again loses more than to quantize the original.",
                "Start from a file with F32, F16, BF16 or Q8_0, or set allowRequantize.",
                {{"option", std::string("allowRequantize")}, {"tensor", tensor.name}});
  }
  const bool needed = ggml_quantize_requires_imatrix(tensor.to) ||
                      (tensor.to == GGML_TYPE_Q2_K && recipe.file_type == "Q2_K_S") || tensor.to == GGML_TYPE_IQ3_XXS ||
                      tensor.to == GGML_TYPE_IQ2_S || tensor.to == GGML_TYPE_IQ1_M;
  const bool is_table = tensor.name == "token_embd.weight" || tensor.name == "per_layer_token_embd.weight" ||
                        tensor.name == "output.weight";
  if (tensor.importance != nullptr || !needed || (is_table && !ggml_quantize_requires_imatrix(tensor.to))) return;
  throw Error(ErrorCode::kInvalidOption,
              std::string(ggml_type_name(tensor.to)) + ", which " + recipe.file_type + " has for " + tensor.name +
                  ", needs to know which weights matter" +
                  (recipe.importance.empty() ? "." : ", and " + recipe.importance + " says nothing about these."),
              "Give an importanceMatrix (computeImportance() makes one), or choose a type with more bits.",
              {{"option", std::string("importanceMatrix")}, {"tensor", tensor.name}});
}

const float* FindImportance(const Importance& importance, const ConvertedTensor& tensor, const std::string& path) {
  const auto found = importance.matrices.find(tensor.name);
  if (found == importance.matrices.end()) return nullptr;
  const auto expected = static_cast<size_t>(tensor.columns * tensor.matrices);
  if (found->second.size() == expected) return found->second.data();
  if (tensor.name == "token_embd.weight") return nullptr;  // llama.cpp's own matrices have it wrong
  throw Error(ErrorCode::kInvalidOption,
              path + " has " + std::to_string(found->second.size()) + " numbers for " + tensor.name +
                  ", whose columns are " + std::to_string(expected) + ".",
              "It is of another model: make one of this.", {{"option", std::string("importanceMatrix")}});
}

ConvertedTensor MakeTensor(const GgufTensor& tensor, uint64_t data_offset, const std::shared_ptr<const File>& file,
                           const std::string& path) {
  const auto type = static_cast<ggml_type>(tensor.type_id);
  const auto extent = [&](size_t i) { return i < tensor.shape.size() ? tensor.shape[i] : 1; };
  return {.name = tensor.name,
          .source = std::make_unique<FileRows>(file, path, data_offset + tensor.offset, ggml_row_size(type, extent(0))),
          .from = type,
          .to = type,
          .columns = extent(0),
          .rows = extent(1),
          .matrices = extent(2) * extent(3)};
}

}  // namespace

Conversion::Conversion(const std::string& path, const Recipe& recipe, bool keep_parts) {
  StartLlama();
  const Skeleton skeleton = Skeleton::OfFile(path);
  const GgufFile& model = skeleton.header();
  const std::vector<ggml_type> types = TargetTypes(model, LoadWithoutWeights({}, skeleton).get(), recipe);
  if (!recipe.importance.empty()) importance_ = std::make_unique<Importance>(ReadImportance(recipe.importance));

  const std::vector<std::string> paths = PartPaths(path, model);
  std::vector<size_t> part_of;
  for (size_t part = 0; part < paths.size(); ++part) {
    const GgufFile file = ReadGguf(*OpenFile(paths[part]));
    std::optional<File> opened = File::Open(paths[part]);
    if (!opened) {
      throw Error(ErrorCode::kLoadFailed, paths[part] + " cannot be read: " + File::LastError() + ".",
                  "Check the file.", {{"path", paths[part]}});
    }
    const auto shared = std::make_shared<const File>(*std::move(opened));
    for (const GgufTensor& tensor : file.tensors) {
      tensors_.push_back(MakeTensor(tensor, file.data_offset, shared, paths[part]));
      tensors_.back().part = part;
    }
  }
  for (size_t i = 0; i < tensors_.size(); ++i) {
    ConvertedTensor& tensor = tensors_[i];
    tensor.to = types[i];
    if (importance_ != nullptr) tensor.importance = FindImportance(*importance_, tensor, recipe.importance);
    CheckTensor(tensor, recipe);
  }

  // As llama-quantize orders them; in several files, as they were.
  const Headers headers(paths);
  if (!keep_parts || paths.size() == 1) {
    std::stable_sort(tensors_.begin(), tensors_.end(), [](const ConvertedTensor& a, const ConvertedTensor& b) {
      return std::make_pair(LayerOf(a.name), a.name) < std::make_pair(LayerOf(b.name), b.name);
    });
  }
  const size_t parts = keep_parts ? paths.size() : 1;
  std::vector<gguf_context_ptr> results(parts);
  for (gguf_context_ptr& result : results) result.reset(gguf_init_empty());
  gguf_set_kv(results[0].get(), headers.first());
  if (recipe.file_type != "COPY") {
    gguf_set_val_u32(results[0].get(), "general.quantization_version", GGML_QNT_VERSION);
    gguf_set_val_u32(results[0].get(), "general.file_type", FileTypeByName(recipe.file_type).value());
  }
  // The result has the default alignment.
  for (const char* key : {"split.no", "split.count", "split.tensors.count", "general.alignment"}) {
    gguf_remove_key(results[0].get(), key);
  }
  if (importance_ != nullptr) RecordImportance(results[0].get(), recipe, *importance_);
  for (size_t part = 0; part < parts && parts > 1; ++part) {
    gguf_set_val_u16(results[part].get(), "split.no", static_cast<uint16_t>(part));
    gguf_set_val_u16(results[part].get(), "split.count", static_cast<uint16_t>(parts));
    gguf_set_val_i32(results[part].get(), "split.tensors.count", static_cast<int32_t>(tensors_.size()));
  }
  for (ConvertedTensor& tensor : tensors_) {
    const ggml_tensor* described = headers.Tensor(tensor.part, tensor.name);
    tensor.part = keep_parts ? tensor.part : 0;
    gguf_context* result = results[tensor.part].get();
    gguf_add_tensor(result, described);
    gguf_set_tensor_type(result, tensor.name.c_str(), tensor.to);
    tensor.offset = gguf_get_tensor_offset(result, gguf_find_tensor(result, tensor.name.c_str()));
  }
  for (const gguf_context_ptr& result : results) {
    ConvertedFile file;
    file.header.resize(gguf_get_meta_size(result.get()));
    gguf_get_meta_data(result.get(), file.header.data());
    file.size = file.header.size();
    const int64_t last = gguf_get_n_tensors(result.get()) - 1;
    if (last >= 0) {
      const size_t end = gguf_get_tensor_offset(result.get(), last) + gguf_get_tensor_size(result.get(), last);
      file.size += GGML_PAD(end, gguf_get_alignment(result.get()));
    }
    files_.push_back(std::move(file));
  }
}

uint64_t Conversion::SourceBytes() const {
  uint64_t bytes = 0;
  for (const ConvertedTensor& tensor : tensors_) bytes += tensor.SourceBytes();
  return bytes;
}

uint64_t Conversion::Bytes() const {
  uint64_t bytes = 0;
  for (const ConvertedTensor& tensor : tensors_) bytes += tensor.Bytes();
  return bytes;
}

}  // namespace coldstart
