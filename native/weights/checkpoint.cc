#include "weights/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>

#include "base/error.h"

namespace coldstart {

namespace {

constexpr const char* kDownloadAgain = "Download the folder again and compare sizes and checksums with the source.";

WeightType ToWeightType(ggml_type type) {
  if (type == GGML_TYPE_F16) return WeightType::kF16;
  if (type == GGML_TYPE_BF16) return WeightType::kBF16;
  return WeightType::kF32;
}

class ComputedRows : public RowSource {
 public:
  ComputedRows(std::vector<float> values, int64_t columns) : values_(std::move(values)), columns_(columns) {}

  void Read(int64_t first, int64_t count, uint8_t* target) const override {
    std::memcpy(target, &values_[static_cast<size_t>(first * columns_)],
                static_cast<size_t>(count * columns_) * sizeof(float));
  }

 private:
  std::vector<float> values_;
  int64_t columns_;
};

class CheckpointRows : public RowSource {
 public:
  CheckpointRows(CheckpointTensor tensor, std::vector<std::string> paths,
                 std::vector<std::shared_ptr<const File>> files, ggml_type type, int64_t columns, int64_t rows)
      : tensor_(std::move(tensor)), paths_(std::move(paths)), files_(std::move(files)), type_(ToWeightType(type)) {
    // Of a vector whose elements change places, each is a row.
    parts_of_row_ = tensor_.interleave > 0 && rows == 1 ? columns : 1;
    columns_ = static_cast<size_t>(columns / parts_of_row_);
    piece_rows_ = static_cast<size_t>(rows * parts_of_row_) / tensor_.pieces.size();
  }

  void Read(int64_t first, int64_t count, uint8_t* target) const override {
    const auto begin = static_cast<size_t>(first * parts_of_row_);
    const size_t end = begin + static_cast<size_t>(count * parts_of_row_);
    // A run of rows of one piece that lie one after the other.
    for (size_t row = begin; row < end;) {
      const size_t in_piece = row % piece_rows_;
      const size_t run = tensor_.interleave > 0 ? 1 : std::min(end - row, piece_rows_ - in_piece);
      ReadRun(tensor_.pieces[row / piece_rows_], PlaceOf(in_piece), run, target);
      target += run * columns_ * BytesOf(type_);
      row += run;
    }
  }

  void ReadAhead(int64_t first, int64_t count) const override {
    // As if no rows changed their places: they do so within a head.
    const auto begin = static_cast<size_t>(first * parts_of_row_);
    const CheckpointPiece& piece = tensor_.pieces[begin / piece_rows_];
    const size_t row_bytes = columns_ * BytesOf(piece.type);
    files_[piece.file]->ReadAhead(piece.offset + begin % piece_rows_ * row_bytes,
                                  static_cast<size_t>(count * parts_of_row_) * row_bytes);
  }

 private:
  // Where the row of the result lies in the checkpoint.
  size_t PlaceOf(size_t row) const {
    if (tensor_.interleave == 0) return row;
    const size_t in_head = row % tensor_.interleave;
    return row - in_head + in_head / 2 + (in_head % 2 == 0 ? 0 : tensor_.interleave / 2);
  }

  void ReadRun(const CheckpointPiece& piece, size_t place, size_t rows, uint8_t* target) const {
    const size_t row_bytes = columns_ * BytesOf(piece.type);
    const size_t bytes = rows * row_bytes;
    // What needs no other room is read to where it goes.
    std::vector<uint8_t> elsewhere(piece.type == type_ ? 0 : bytes);
    uint8_t* source = piece.type == type_ ? target : elsewhere.data();
    const auto read = files_[piece.file]->ReadAt(source, bytes, piece.offset + place * row_bytes);
    if (read != bytes) Refuse(piece, read.has_value());
    const WeightConversion how{.from = piece.type, .to = type_, .columns = columns_, .add = tensor_.add};
    const WeightResult result = ConvertWeights(how, std::span(source, bytes), target);
    if (result.fault != WeightFault::kNone)
      Refuse(piece, result.fault, (place + result.row) * columns_ + result.column);
  }

  [[noreturn]] void Refuse(const CheckpointPiece& piece, bool is_short) const {
    const std::string& path = paths_[piece.file];
    if (is_short) {
      throw Error(ErrorCode::kInvalidCheckpoint, path + " became shorter while it was read.", kDownloadAgain,
                  {{"path", path}});
    }
    throw Error(ErrorCode::kLoadFailed, path + " cannot be read: " + File::LastError() + ".",
                "Check the file and its disk.", {{"path", path}});
  }

  [[noreturn]] void Refuse(const CheckpointPiece& piece, WeightFault fault, size_t index) const {
    const bool overflow = fault == WeightFault::kOverflow;
    throw Error(ErrorCode::kInvalidCheckpoint,
                "The weight " + std::to_string(index) + " of the tensor " + piece.name + " is " +
                    (overflow ? std::string("too large for ") + NameOf(type_) : std::string("NaN or infinite")) + ".",
                overflow ? "Convert to the type \"BF16\" or \"F32\"." : kDownloadAgain,
                {{"tensor", piece.name}, {"index", static_cast<double>(index)}});
  }

  CheckpointTensor tensor_;
  std::vector<std::string> paths_;
  std::vector<std::shared_ptr<const File>> files_;
  WeightType type_;
  int64_t parts_of_row_;  // rows here for each of the result's
  size_t columns_;
  size_t piece_rows_;
};

}  // namespace

std::unique_ptr<RowSource> MakeCheckpointRows(const Checkpoint& checkpoint, size_t tensor,
                                              std::vector<std::shared_ptr<const File>> files, ggml_type type,
                                              int64_t columns, int64_t rows) {
  const CheckpointTensor& how = checkpoint.tensors.at(tensor);
  const size_t pieces = std::max<size_t>(1, how.pieces.size());
  const auto unit = static_cast<int64_t>(std::max<size_t>(1, how.interleave));
  const bool fits = how.pieces.empty() ? how.values.size() == static_cast<size_t>(columns * rows)
                                       : rows % static_cast<int64_t>(pieces) == 0 &&
                                             (rows == 1 ? columns : rows / static_cast<int64_t>(pieces)) % unit == 0;
  if (!fits) {
    throw Error(ErrorCode::kInternal, "A tensor of the checkpoint is not as its description says.",
                "This is likely a defect of coldstart; please report it.", {{"tensor", static_cast<double>(tensor)}});
  }
  if (how.pieces.empty()) return std::make_unique<ComputedRows>(how.values, columns);
  return std::make_unique<CheckpointRows>(how, checkpoint.files, std::move(files), type, columns, rows);
}

}  // namespace coldstart
