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
      : tensor_(std::move(tensor)), paths_(std::move(paths)), files_(std::move(files)), type_(type) {
    // Of a vector whose elements change places, each is a row.
    parts_of_row_ = tensor_.interleave > 0 && rows == 1 ? columns : 1;
    columns_ = static_cast<size_t>(columns / parts_of_row_);
    piece_rows_ = static_cast<size_t>(rows * parts_of_row_) / tensor_.pieces.size();
    for (CheckpointPiece& piece : tensor_.pieces) {
      if (!piece.packed) continue;
      piece.packed->matrix.codes = ReaderOf(piece.packed->codes);
      piece.packed->matrix.zeros = ReaderOf(piece.packed->zeros);
      piece.packed->matrix.scales = ReaderOf(piece.packed->scales);
    }
  }
  // Its readers point to it.
  CheckpointRows(const CheckpointRows&) = delete;
  CheckpointRows& operator=(const CheckpointRows&) = delete;

  void Read(int64_t first, int64_t count, uint8_t* target) const override {
    const auto begin = static_cast<size_t>(first * parts_of_row_);
    const size_t end = begin + static_cast<size_t>(count * parts_of_row_);
    for (size_t row = begin; row < end;) {
      const CheckpointPiece& piece = tensor_.pieces[row / piece_rows_];
      const size_t in_piece = row % piece_rows_;
      size_t run = std::min(end - row, piece_rows_ - in_piece);
      if (piece.packed) {
        ReadPacked(*piece.packed, in_piece, run, target);
      } else {
        // Of rows that change places, one by one.
        if (tensor_.interleave > 0) run = 1;
        if (piece.scales) run = std::min(run, RowsOfBlock(*piece.scales, PlaceOf(in_piece)));
        ReadRun(piece, PlaceOf(in_piece), run, target);
      }
      target += run * RowBytes();
      row += run;
    }
  }

  int64_t RowsAtOnce() const override {
    const CheckpointPiece& piece = tensor_.pieces.front();
    return piece.packed ? PackedRowsAtOnce(piece.packed->matrix) : 0;
  }

  void ReadAhead(int64_t first, int64_t count) const override {
    // As if no rows changed their places: they do so within a head.
    const auto begin = static_cast<size_t>(first * parts_of_row_);
    const CheckpointPiece& piece = tensor_.pieces[begin / piece_rows_];
    if (piece.packed) return;  // See ReadPacked().
    const size_t row_bytes = columns_ * BytesOf(piece.place.type);
    files_[piece.place.file]->ReadAhead(piece.place.offset + begin % piece_rows_ * row_bytes,
                                        static_cast<size_t>(count * parts_of_row_) * row_bytes);
  }

 private:
  size_t RowBytes() const { return ggml_row_size(type_, static_cast<int64_t>(columns_)); }

  // Where the row of the result lies in the checkpoint.
  size_t PlaceOf(size_t row) const {
    if (tensor_.interleave == 0) return row;
    const size_t in_head = row % tensor_.interleave;
    return row - in_head + in_head / 2 + (in_head % 2 == 0 ? 0 : tensor_.interleave / 2);
  }

  static size_t RowsOfBlock(const CheckpointScales& scales, size_t place) {
    const auto rows = static_cast<size_t>(scales.rows);
    return rows - place % rows;
  }

  void ReadPacked(const CheckpointPacked& packed, size_t first, size_t count, uint8_t* target) const {
    // A few outputs of each input are read at a time, again and again: the system sees no order in that.
    const PackedMatrix& matrix = packed.matrix;
    if (first == 0) {
      files_[packed.codes.file]->ReadAhead(packed.codes.offset,
                                           static_cast<size_t>(matrix.inputs * matrix.outputs * matrix.bits / 8));
    }
    std::vector<int64_t> places(count);
    for (size_t i = 0; i < count; ++i) places[i] = static_cast<int64_t>(PlaceOf(first + i));
    ReadPackedRows(matrix, places, type_, target);
  }

  void ReadRun(const CheckpointPiece& piece, size_t place, size_t rows, uint8_t* target) const {
    const WeightType from = piece.place.type;
    const WeightType to = ToWeightType(type_);
    const size_t row_bytes = columns_ * BytesOf(from);
    const size_t bytes = rows * row_bytes;
    // What needs no other room is read to where it goes.
    std::vector<uint8_t> elsewhere(from == to ? 0 : bytes);
    uint8_t* source = from == to ? target : elsewhere.data();
    ReadBytes(piece.place, place * row_bytes, std::span(source, bytes));
    std::vector<float> factors;
    if (piece.scales) factors = FactorsOf(*piece.scales, place);
    if (tensor_.multiply != 1) factors.assign(columns_, tensor_.multiply);  // of adapters, which have no scales
    const WeightConversion how{.from = from, .to = to, .columns = columns_, .add = tensor_.add, .factors = factors};
    const WeightResult result = ConvertWeights(how, std::span(source, bytes), target);
    if (result.fault != WeightFault::kNone)
      Refuse(piece, result.fault, (place + result.row) * columns_ + result.column);
  }

  // Of each column, in the row at `place`.
  std::vector<float> FactorsOf(const CheckpointScales& scales, size_t place) const {
    const auto width = static_cast<size_t>(scales.columns);
    const size_t blocks = (columns_ + width - 1) / width;
    const size_t bytes = BytesOf(scales.place.type);
    std::vector<uint8_t> row(blocks * bytes);
    ReadBytes(scales.place, place / static_cast<size_t>(scales.rows) * row.size(), row);
    std::vector<float> values(blocks);
    const WeightConversion how{.from = scales.place.type, .to = WeightType::kF32, .columns = blocks};
    if (ConvertWeights(how, row, reinterpret_cast<uint8_t*>(values.data())).fault != WeightFault::kNone) {
      throw Error(ErrorCode::kInvalidCheckpoint, "A scale of " + tensor_.pieces.front().name + " is NaN or infinite.",
                  kDownloadAgain, {{"tensor", tensor_.pieces.front().name}});
    }
    std::vector<float> factors(columns_);
    for (size_t i = 0; i < columns_; ++i) factors[i] = values[i / width];
    return factors;
  }

  PackedMatrix::Read ReaderOf(const CheckpointPlace& place) const {
    return [this, place](uint64_t position, std::span<uint8_t> target) { ReadBytes(place, position, target); };
  }

  void ReadBytes(const CheckpointPlace& place, uint64_t position, std::span<uint8_t> target) const {
    const auto read = files_[place.file]->ReadAt(target.data(), target.size(), place.offset + position);
    if (read == target.size()) return;
    const std::string& path = paths_[place.file];
    if (read) {
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
                    (overflow ? std::string("too large for ") + NameOf(ToWeightType(type_)) : "NaN or infinite") + ".",
                overflow ? "Convert to the type \"BF16\" or \"F32\"." : kDownloadAgain,
                {{"tensor", piece.name}, {"index", static_cast<double>(index)}});
  }

  CheckpointTensor tensor_;
  std::vector<std::string> paths_;
  std::vector<std::shared_ptr<const File>> files_;
  ggml_type type_;
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
  const auto fits_packed = [&](const CheckpointPiece& piece) {
    return !piece.packed || (piece.packed->matrix.inputs == columns &&
                             piece.packed->matrix.outputs * static_cast<int64_t>(pieces) == rows);
  };
  if (!fits || !std::all_of(how.pieces.begin(), how.pieces.end(), fits_packed)) {
    throw Error(ErrorCode::kInternal, "A tensor of the checkpoint is not as its description says.",
                "This is likely a defect of coldstart; please report it.", {{"tensor", static_cast<double>(tensor)}});
  }
  if (how.pieces.empty()) return std::make_unique<ComputedRows>(how.values, columns);
  return std::make_unique<CheckpointRows>(how, checkpoint.files, std::move(files), type, columns, rows);
}

}  // namespace coldstart
