// A model in Hugging Face's layout: what lib/huggingface has found out about its files, and its tensors' rows as they
// would be in a GGUF file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "ggml.h"
#include "weights/checkpoint_rows.h"
#include "weights/packed_matrix.h"
#include "weights/row_source.h"

namespace coldstart {

// A tensor of safetensors.
struct CheckpointPlace {
  size_t file = 0;
  uint64_t offset = 0;  // bytes from the file's start
  WeightType type = WeightType::kF32;
};

// What blocks of a matrix are multiplied with, by rows.
struct CheckpointScales {
  CheckpointPlace place;
  int64_t rows = 1;     // of a block
  int64_t columns = 1;  // likewise
};

// A matrix that is packed, and where its parts are; what `matrix` reads them with is set when the files are open.
struct CheckpointPacked {
  PackedMatrix matrix;
  CheckpointPlace codes;
  CheckpointPlace zeros;
  CheckpointPlace scales;
};

// Rows of a tensor: a tensor of safetensors, of numbers or packed.
struct CheckpointPiece {
  std::string name;
  CheckpointPlace place;
  std::optional<CheckpointScales> scales;
  std::optional<CheckpointPacked> packed;  // instead of `place`
};

// How a tensor of the GGUF file comes from the checkpoint's.
struct CheckpointTensor {
  std::vector<CheckpointPiece> pieces;  // of equal length, one after the other
  std::vector<float> values;            // without pieces: the tensor itself, F32
  // Rows of an attention head whose halves are interleaved, 0 for none: row j of the first half becomes row 2 j, row j
  // of the second half row 2 j + 1. Hugging Face rotates element j with element j + rows/2, GGUF's "llama" each pair of
  // neighbours. A vector has rows of one element then.
  size_t interleave = 0;
  float multiply = 1;  // each weight, before
  float add = 0;       // is added: norms of Gemma are stored less 1
};

struct Checkpoint {
  std::string header;                     // of the GGUF file
  std::vector<std::string> files;         // paths
  std::vector<CheckpointTensor> tensors;  // in the order of the header
};

// The rows of a tensor of `columns` by `rows` (of all matrices together) weights of `type`: F32, F16 or BF16, or what
// ReadPackedRows() gives of packed ones.
// `files` are those of the checkpoint, open. Reading throws kInvalidCheckpoint for weights that are NaN, infinite or
// too large for the type, and for files that became shorter, kLoadFailed.
std::unique_ptr<RowSource> MakeCheckpointRows(const Checkpoint& checkpoint, size_t tensor,
                                              std::vector<std::shared_ptr<const File>> files, ggml_type type,
                                              int64_t columns, int64_t rows);

}  // namespace coldstart
