#include "weights/packed_matrix.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace coldstart {

namespace {

constexpr int64_t kBand = 4 << 20;  // bytes of codes that are read at a time
// Outputs that are unpacked together: their words are neighbours in a line of the cache.
constexpr int64_t kTile = 16;
constexpr int64_t kBlock = 32;  // weights of a block of Q4_0, Q4_1 and Q8_0
constexpr std::array<int64_t, 8> kAwqOrder = {0, 2, 4, 6, 1, 3, 5, 7};

uint32_t Word(const uint8_t* bytes, int64_t index) {
  uint32_t word = 0;
  std::memcpy(&word, bytes + 4 * index, sizeof(word));
  return word;
}

float ScaleAt(const uint8_t* bytes, int64_t index, WeightType type) {
  if (type == WeightType::kF32) {
    float value = 0;
    std::memcpy(&value, bytes + 4 * index, sizeof(value));
    return value;
  }
  uint16_t half = 0;
  std::memcpy(&half, bytes + 2 * index, sizeof(half));
  if (type == WeightType::kF16) return ggml_fp16_to_fp32(half);
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

[[noreturn]] void Refuse(const PackedMatrix& matrix, const std::string& what, int64_t output) {
  throw Error(ErrorCode::kInvalidCheckpoint, what,
              "Download the folder again and compare sizes and checksums with the source.",
              {{"tensor", matrix.name}, {"row", static_cast<double>(output)}});
}

// Scales and zeros of the outputs from `begin` on.
class Groups {
 public:
  Groups(const PackedMatrix& matrix, int64_t begin, int64_t count)
      : matrix_(matrix), begin_(begin), count_(count), scales_(Size()), zeros_(Size()) {
    ReadScales();
    ReadZeros();
  }

  float scale(int64_t group, int64_t at) const { return scales_[Index(group, at)]; }
  int32_t zero(int64_t group, int64_t at) const { return zeros_[Index(group, at)]; }

 private:
  size_t Size() const { return static_cast<size_t>(matrix_.group_count() * count_); }
  size_t Index(int64_t group, int64_t at) const { return static_cast<size_t>(group * count_ + at); }

  void ReadScales() {
    const auto bytes = static_cast<int64_t>(BytesOf(matrix_.scale_type));
    std::vector<uint8_t> row(static_cast<size_t>(count_ * bytes));
    for (int64_t group = 0; group < matrix_.group_count(); ++group) {
      matrix_.scales(static_cast<uint64_t>((group * matrix_.outputs + begin_) * bytes), row);
      for (int64_t i = 0; i < count_; ++i) {
        const float scale = ScaleAt(row.data(), i, matrix_.scale_type);
        if (!std::isfinite(scale))
          Refuse(matrix_, "A scale of " + matrix_.name + ".scales is NaN or infinite.", begin_ + i);
        scales_[Index(group, i)] = scale;
      }
    }
  }

  // Packed along the outputs.
  void ReadZeros() {
    const int64_t bits = matrix_.bits;
    const int64_t words_of_row = matrix_.outputs * bits / 32;
    const int64_t first = begin_ * bits / 32;
    const int64_t last = ((begin_ + count_) * bits + 31) / 32;
    std::vector<uint8_t> row(static_cast<size_t>(4 * (last - first)));
    for (int64_t group = 0; group < matrix_.group_count(); ++group) {
      matrix_.zeros(static_cast<uint64_t>(4 * (group * words_of_row + first)), row);
      for (int64_t i = 0; i < count_; ++i) zeros_[Index(group, i)] = ZeroAt(row.data(), begin_ + i, first, last);
    }
  }

  int32_t ZeroAt(const uint8_t* row, int64_t output, int64_t first, int64_t last) const {
    const int64_t bits = matrix_.bits;
    const auto mask = static_cast<uint64_t>((1 << bits) - 1);
    int64_t at = output;
    if (matrix_.layout == PackedMatrix::Layout::kAwq) {
      const auto place = std::find(kAwqOrder.begin(), kAwqOrder.end(), output % 8) - kAwqOrder.begin();
      at = output - output % 8 + place;
    }
    const int64_t bit = at * bits;
    const int64_t word = bit / 32 - first;
    // Three bits may reach into the next word.
    const uint64_t next = word + 1 < last - first ? Word(row, word + 1) : 0;
    uint64_t zero = ((Word(row, word) | next << 32) >> (bit % 32)) & mask;
    // Less one they went round: 0 is stored as the largest.
    if (matrix_.zeros_less_one) zero = (zero + 1) & mask;
    return static_cast<int32_t>(zero);
  }

  const PackedMatrix& matrix_;
  int64_t begin_;
  int64_t count_;
  std::vector<float> scales_;
  std::vector<int32_t> zeros_;
};

// The codes of a band of outputs, packed.
class Codes {
 public:
  Codes(const PackedMatrix& matrix, int64_t begin, int64_t count) : matrix_(matrix), count_(count) {
    const bool is_awq = matrix.layout == PackedMatrix::Layout::kAwq;
    lines_ = is_awq ? matrix.inputs : matrix.inputs * matrix.bits / 32;
    words_ = is_awq ? count / 8 : count;
    const int64_t words_of_line = is_awq ? matrix.outputs / 8 : matrix.outputs;
    const int64_t first = is_awq ? begin / 8 : begin;
    bytes_.resize(static_cast<size_t>(4 * lines_ * words_));
    for (int64_t line = 0; line < lines_; ++line) {
      matrix.codes(static_cast<uint64_t>(4 * (line * words_of_line + first)),
                   std::span(bytes_).subspan(static_cast<size_t>(4 * line * words_), static_cast<size_t>(4 * words_)));
    }
  }

  // Of `count` outputs from the band's `at`-th on: `codes[i * inputs + k]`.
  void Unpack(int64_t at, int64_t count, uint8_t* codes) const {
    if (matrix_.layout == PackedMatrix::Layout::kAwq) {
      UnpackAwq(at, count, codes);
    } else {
      UnpackGptq(at, count, codes);
    }
  }

 private:
  void UnpackGptq(int64_t at, int64_t count, uint8_t* codes) const {
    const int64_t bits = matrix_.bits;
    const auto mask = static_cast<uint64_t>((1 << bits) - 1);
    std::array<uint64_t, kTile> waiting{};  // bits that are no whole code yet
    int64_t filled = 0;
    int64_t input = 0;
    for (int64_t line = 0; line < lines_; ++line) {
      for (int64_t i = 0; i < count; ++i) {
        waiting[static_cast<size_t>(i)] |= static_cast<uint64_t>(Word(bytes_.data(), line * words_ + at + i)) << filled;
      }
      for (filled += 32; filled >= bits; filled -= bits, ++input) {
        for (int64_t i = 0; i < count; ++i) {
          uint64_t& rest = waiting[static_cast<size_t>(i)];
          codes[i * matrix_.inputs + input] = static_cast<uint8_t>(rest & mask);
          rest >>= bits;
        }
      }
    }
  }

  void UnpackAwq(int64_t at, int64_t count, uint8_t* codes) const {
    for (int64_t input = 0; input < matrix_.inputs; ++input) {
      for (int64_t word = 0; word < count / 8; ++word) {
        const uint32_t packed = Word(bytes_.data(), input * words_ + at / 8 + word);
        for (size_t j = 0; j < kAwqOrder.size(); ++j) {
          codes[(8 * word + kAwqOrder[j]) * matrix_.inputs + input] = static_cast<uint8_t>(packed >> (4 * j) & 15);
        }
      }
    }
  }

  const PackedMatrix& matrix_;
  int64_t count_;
  int64_t lines_ = 0;
  int64_t words_ = 0;
  std::vector<uint8_t> bytes_;
};

void StoreHalf(uint8_t* target, float value) {
  const ggml_fp16_t half = ggml_fp32_to_fp16(value);
  std::memcpy(target, &half, sizeof(half));
}

// Two codes a byte: of the first and of the second half of a block.
void StoreNibbles(uint8_t* target, const uint8_t* codes, uint8_t offset) {
  for (int64_t i = 0; i < kBlock / 2; ++i) {
    const int low = codes[i] + offset;
    const int high = codes[i + kBlock / 2] + offset;
    target[i] = static_cast<uint8_t>(low | high << 4);
  }
}

class RowWriter {
 public:
  RowWriter(const PackedMatrix& matrix, const Groups& groups, ggml_type type)
      : matrix_(matrix), groups_(groups), type_(type), row_(static_cast<size_t>(matrix.inputs)) {}

  // `at`: of the output in `groups`.
  void Write(int64_t output, int64_t at, const uint8_t* codes, uint8_t* target) {
    switch (type_) {
      case GGML_TYPE_Q4_0:
      case GGML_TYPE_Q4_1:
      case GGML_TYPE_Q8_0: return WriteBlocks(output, at, codes, target);
      default: return WriteNumbers(output, at, codes, target);
    }
  }

 private:
  void WriteBlocks(int64_t output, int64_t at, const uint8_t* codes, uint8_t* target) const {
    const int32_t middle = 1 << (matrix_.bits - 1);
    for (int64_t first = 0; first < matrix_.inputs; first += kBlock) {
      const int64_t group = first / matrix_.group_size;
      const float scale = groups_.scale(group, at);
      const int32_t zero = groups_.zero(group, at);
      if (type_ != GGML_TYPE_Q4_1 && zero != middle) {
        Refuse(matrix_, matrix_.name + " is said to be symmetric, and a zero is " + std::to_string(zero) + ".", output);
      }
      StoreHalf(target, scale);
      target += 2;
      if (type_ == GGML_TYPE_Q4_1) {
        StoreHalf(target, -scale * static_cast<float>(zero));
        target += 2;
        StoreNibbles(target, codes + first, 0);
        target += kBlock / 2;
      } else if (type_ == GGML_TYPE_Q4_0) {
        StoreNibbles(target, codes + first, static_cast<uint8_t>(8 - middle));
        target += kBlock / 2;
      } else {
        for (int64_t i = 0; i < kBlock; ++i) *target++ = static_cast<uint8_t>(codes[first + i] - middle);
      }
    }
  }

  void WriteNumbers(int64_t output, int64_t at, const uint8_t* codes, uint8_t* target) {
    const int64_t run = matrix_.groups.empty() ? matrix_.group_size : 1;
    for (int64_t first = 0; first < matrix_.inputs; first += run) {
      const int64_t group = matrix_.groups.empty() ? first / run : matrix_.groups[static_cast<size_t>(first)];
      const float scale = groups_.scale(group, at);
      const int32_t zero = groups_.zero(group, at);
      const int64_t end = std::min(first + run, matrix_.inputs);
      for (int64_t i = first; i < end; ++i) row_[static_cast<size_t>(i)] = scale * static_cast<float>(codes[i] - zero);
    }
    const auto to = type_ == GGML_TYPE_F16    ? WeightType::kF16
                    : type_ == GGML_TYPE_BF16 ? WeightType::kBF16
                                              : WeightType::kF32;
    const WeightConversion how{.from = WeightType::kF32, .to = to, .columns = row_.size()};
    const std::span<const uint8_t> source(reinterpret_cast<const uint8_t*>(row_.data()), row_.size() * sizeof(float));
    if (ConvertWeights(how, source, target).fault != WeightFault::kNone)
      Refuse(matrix_, "A weight of " + matrix_.name + " is too large for " + NameOf(to) + ".", output);
  }

  const PackedMatrix& matrix_;
  const Groups& groups_;
  ggml_type type_;
  std::vector<float> row_;
};

}  // namespace

int64_t PackedRowsAtOnce(const PackedMatrix& matrix) {
  const int64_t rows = kBand * 8 / matrix.bits / std::max<int64_t>(1, matrix.inputs);
  return std::max(kTile, rows / kTile * kTile);
}

void ReadPackedRows(const PackedMatrix& matrix, std::span<const int64_t> rows, ggml_type type, uint8_t* target) {
  const auto [least, largest] = std::minmax_element(rows.begin(), rows.end());
  // Words of AWQ hold eight outputs.
  const int64_t begin = *least / 8 * 8;
  const int64_t count = std::min((*largest + 8) / 8 * 8, matrix.outputs) - begin;
  std::vector<int64_t> places(static_cast<size_t>(count), -1);
  for (size_t i = 0; i < rows.size(); ++i) places[static_cast<size_t>(rows[i] - begin)] = static_cast<int64_t>(i);

  const Groups groups(matrix, begin, count);
  const Codes packed(matrix, begin, count);
  RowWriter writer(matrix, groups, type);
  const auto row_bytes = static_cast<int64_t>(ggml_row_size(type, matrix.inputs));
  std::vector<uint8_t> codes(static_cast<size_t>(kTile * matrix.inputs));
  for (int64_t at = 0; at < count; at += kTile) {
    const int64_t tile = std::min(kTile, count - at);
    packed.Unpack(at, tile, codes.data());
    for (int64_t i = 0; i < tile; ++i) {
      const int64_t place = places[static_cast<size_t>(at + i)];
      if (place >= 0)
        writer.Write(begin + at + i, at + i, &codes[static_cast<size_t>(i * matrix.inputs)],
                     target + place * row_bytes);
    }
  }
}

}  // namespace coldstart
