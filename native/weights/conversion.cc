#include "weights/conversion.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "backends/log.h"
#include "base/error.h"
#include "ggml-cpp.h"
#include "gguf.h"
#include "loading/loaded_model.h"
#include "loading/nameless_file.h"
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

// One of the source's files: its header as ggml reads it, and where the rows of its tensors come from.
struct SourceFile {
  ggml_context_ptr tensors;
  gguf_context_ptr header;
  std::function<std::unique_ptr<RowSource>(int64_t index, const ggml_tensor& tensor)> rows;
};

[[noreturn]] void ThrowUnreadable(const std::string& path) {
  throw Error(ErrorCode::kLoadFailed, path + " cannot be read: " + File::LastError() + ".", "Check the file.",
              {{"path", path}});
}

std::shared_ptr<const File> OpenShared(const std::string& path) {
  std::optional<File> file = File::Open(path);
  if (!file) ThrowUnreadable(path);
  return std::make_shared<const File>(*std::move(file));
}

SourceFile OpenSource(const std::string& path) {
  ggml_context* tensors = nullptr;
  gguf_context_ptr header(gguf_init_from_file(path.c_str(), {.no_alloc = true, .ctx = &tensors}));
  SourceFile source{ggml_context_ptr(tensors), std::move(header), {}};
  if (source.header == nullptr) ThrowUnreadable(path);
  source.rows = [file = OpenShared(path), path, header = source.header.get()](int64_t index,
                                                                              const ggml_tensor& tensor) {
    const uint64_t offset = gguf_get_data_offset(header) + gguf_get_tensor_offset(header, index);
    return std::make_unique<FileRows>(file, path, offset, ggml_row_size(tensor.type, tensor.ne[0]));
  };
  return source;
}

SourceFile OpenSource(std::shared_ptr<const Checkpoint> checkpoint) {
  ggml_context* tensors = nullptr;
  const FilePtr file = NamelessFile(checkpoint->header, checkpoint->header.size());
  gguf_context_ptr header(gguf_init_from_file_ptr(file.get(), {.no_alloc = true, .ctx = &tensors}));
  SourceFile source{ggml_context_ptr(tensors), std::move(header), {}};
  if (source.header == nullptr ||
      gguf_get_n_tensors(source.header.get()) != static_cast<int64_t>(checkpoint->tensors.size())) {
    throw Error(ErrorCode::kInternal, "The checkpoint's header cannot be read.", "Please report this.");
  }
  std::vector<std::shared_ptr<const File>> files;
  for (const std::string& path : checkpoint->files) files.push_back(OpenShared(path));
  source.rows = [checkpoint = std::move(checkpoint), files = std::move(files)](int64_t index,
                                                                               const ggml_tensor& tensor) {
    return MakeCheckpointRows(*checkpoint, static_cast<size_t>(index), files, tensor.type, tensor.ne[0],
                              ggml_nrows(&tensor));
  };
  return source;
}

std::vector<SourceFile> OpenSources(const ModelSource& from, const GgufFile& header) {
  std::vector<SourceFile> sources;
  if (const auto* path = std::get_if<std::string>(&from)) {
    for (const std::string& part : PartPaths(*path, header)) sources.push_back(OpenSource(part));
  } else {
    sources.push_back(OpenSource(std::get<std::shared_ptr<const Checkpoint>>(from)));
  }
  return sources;
}

Skeleton SkeletonOf(const ModelSource& source) {
  if (const auto* path = std::get_if<std::string>(&source)) return Skeleton::OfFile(*path);
  return Skeleton::OfHeaders({std::get<std::shared_ptr<const Checkpoint>>(source)->header});
}

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
              "Give an importanceMatrix (llama.cpp's llama-imatrix makes one), or choose a type with more bits.",
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

ConvertedTensor MakeTensor(const SourceFile& source, size_t part, int64_t index) {
  const char* name = gguf_get_tensor_name(source.header.get(), index);
  const ggml_tensor* tensor = ggml_get_tensor(source.tensors.get(), name);
  return {.name = name,
          .source = source.rows(index, *tensor),
          .from = tensor->type,
          .to = tensor->type,
          .columns = tensor->ne[0],
          .rows = tensor->ne[1],
          .matrices = tensor->ne[2] * tensor->ne[3],
          .part = part};
}

// As llama-quantize orders those of one file.
void SortTensors(std::vector<ConvertedTensor>& tensors) {
  std::stable_sort(tensors.begin(), tensors.end(), [](const ConvertedTensor& a, const ConvertedTensor& b) {
    return std::make_pair(LayerOf(a.name), a.name) < std::make_pair(LayerOf(b.name), b.name);
  });
}

// The metadata of the result's files; with a recipe in llama-quantize's order.
std::vector<gguf_context_ptr> MakeHeaders(const gguf_context* source, size_t parts, size_t tensors,
                                          const std::optional<Recipe>& recipe, const Importance* importance) {
  std::vector<gguf_context_ptr> headers(parts);
  for (gguf_context_ptr& header : headers) header.reset(gguf_init_empty());
  gguf_context* first = headers[0].get();
  gguf_set_kv(first, source);
  if (recipe) {
    gguf_set_val_u32(first, "general.quantization_version", GGML_QNT_VERSION);
    gguf_set_val_u32(first, "general.file_type", FileTypeByName(recipe->file_type).value());
  }
  // The result has the default alignment.
  for (const char* key : {"split.no", "split.count", "split.tensors.count", "general.alignment"}) {
    gguf_remove_key(first, key);
  }
  if (importance != nullptr) RecordImportance(first, *recipe, *importance);
  for (size_t part = 0; part < parts && parts > 1; ++part) {
    gguf_context* header = headers[part].get();
    gguf_set_val_u16(header, "split.no", static_cast<uint16_t>(part));
    gguf_set_val_u16(header, "split.count", static_cast<uint16_t>(parts));
    gguf_set_val_i32(header, "split.tensors.count", static_cast<int32_t>(tensors));
  }
  return headers;
}

ConvertedFile Finished(const gguf_context* header) {
  ConvertedFile file;
  file.header.resize(gguf_get_meta_size(header));
  gguf_get_meta_data(header, file.header.data());
  file.size = file.header.size();
  const int64_t last = gguf_get_n_tensors(header) - 1;
  if (last < 0) return file;
  const size_t end = gguf_get_tensor_offset(header, last) + gguf_get_tensor_size(header, last);
  file.size += GGML_PAD(end, gguf_get_alignment(header));
  return file;
}

}  // namespace

Conversion::Conversion(const ModelSource& source, const std::optional<Recipe>& recipe, bool keep_parts) {
  StartLlama();
  const Skeleton skeleton = SkeletonOf(source);
  std::vector<SourceFile> sources = OpenSources(source, skeleton.header());
  for (size_t part = 0; part < sources.size(); ++part) {
    const int64_t count = gguf_get_n_tensors(sources[part].header.get());
    for (int64_t i = 0; i < count; ++i) tensors_.push_back(MakeTensor(sources[part], part, i));
  }
  if (recipe) {
    if (!recipe->importance.empty()) importance_ = std::make_unique<Importance>(ReadImportance(recipe->importance));
    const std::vector<ggml_type> types =
        TargetTypes(skeleton.header(), LoadWithoutWeights({}, skeleton).get(), *recipe);
    // Both are in the order of the files.
    for (size_t i = 0; i < tensors_.size(); ++i) {
      ConvertedTensor& tensor = tensors_[i];
      tensor.to = types.at(i);
      if (importance_ != nullptr) tensor.importance = FindImportance(*importance_, tensor, recipe->importance);
      CheckTensor(tensor, *recipe);
    }
  }

  if (sources.size() == 1) keep_parts = false;
  if (recipe && !keep_parts) SortTensors(tensors_);
  const std::vector<gguf_context_ptr> headers =
      MakeHeaders(sources[0].header.get(), keep_parts ? sources.size() : 1, tensors_.size(), recipe, importance_.get());
  for (ConvertedTensor& tensor : tensors_) {
    const ggml_tensor* described = ggml_get_tensor(sources[tensor.part].tensors.get(), tensor.name.c_str());
    if (!keep_parts) tensor.part = 0;
    gguf_context* header = headers[tensor.part].get();
    gguf_add_tensor(header, described);
    gguf_set_tensor_type(header, tensor.name.c_str(), tensor.to);
    tensor.offset = gguf_get_tensor_offset(header, gguf_get_n_tensors(header) - 1);
  }
  for (const gguf_context_ptr& header : headers) files_.push_back(Finished(header.get()));
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
