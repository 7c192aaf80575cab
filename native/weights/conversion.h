// A model about to be written, as a GGUF file or into memory: what becomes of each tensor, and the headers of the
// result. Nothing is read but headers.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "ggml.h"
#include "weights/checkpoint.h"
#include "weights/importance.h"
#include "weights/recipe.h"
#include "weights/row_source.h"

namespace coldstart {

// Where a model comes from: the path of a GGUF file, of the first one if there are several; or a checkpoint.
using ModelSource = std::variant<std::string, std::shared_ptr<const Checkpoint>>;

struct ConvertedTensor {
  std::string name;
  std::unique_ptr<RowSource> source;
  ggml_type from;
  ggml_type to;
  int64_t columns;
  int64_t rows;      // of each matrix
  int64_t matrices;  // experts
  // One weight for each column of each matrix, or none.
  const float* importance = nullptr;
  size_t part = 0;      // of the result's files
  uint64_t offset = 0;  // bytes from the start of that file's data

  uint64_t SourceBytes() const { return static_cast<uint64_t>(rows * matrices) * ggml_row_size(from, columns); }
  uint64_t Bytes() const { return static_cast<uint64_t>(rows * matrices) * ggml_row_size(to, columns); }
};

struct ConvertedFile {
  std::string header;  // up to the data
  uint64_t size = 0;   // bytes, header included
};

class Conversion {
 public:
  // Without a recipe all types stay as they are. With `keep_parts` the result has as many files as the source, else
  // one. The source must have passed CheckModelFiles or CheckModelHeader. Throws kInvalidOption, kInvalidGguf,
  // kUnsupportedModel, kModelNotFound, kLoadFailed.
  Conversion(const ModelSource& source, const std::optional<Recipe>& recipe, bool keep_parts);

  const std::vector<ConvertedTensor>& tensors() const { return tensors_; }
  const std::vector<ConvertedFile>& files() const { return files_; }
  uint64_t SourceBytes() const;  // of weights
  uint64_t Bytes() const;

 private:
  std::unique_ptr<const Importance> importance_;
  std::vector<ConvertedTensor> tensors_;  // in the order they are in the result
  std::vector<ConvertedFile> files_;
};

}  // namespace coldstart
