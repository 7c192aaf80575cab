#include "weights/checkpoint_rows.h"

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "ggml.h"

namespace coldstart {

namespace {

// 8 bits: a sign, `exponent_bits` of exponent, the rest of mantissa. E4M3 is the "FN" variant of the OCP specification:
// no infinities, and NaN only where all other bits are 1. E5M2 is as IEEE 754 would have it.
std::array<float, 256> TableOf8Bits(int exponent_bits, bool has_infinities) {
  const int mantissa_bits = 7 - exponent_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int largest_exponent = (1 << exponent_bits) - 1;
  const int largest_mantissa = (1 << mantissa_bits) - 1;
  std::array<float, 256> table{};
  for (int bits = 0; bits < 256; ++bits) {
    const int exponent = (bits & 0x7f) >> mantissa_bits;
    const int mantissa = bits & largest_mantissa;
    float value = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), 1 - bias - mantissa_bits)
                                : std::ldexp(static_cast<float>(mantissa + largest_mantissa + 1),
                                             exponent - bias - mantissa_bits);
    if (exponent == largest_exponent) {
      if (has_infinities) {
        value = mantissa == 0 ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
      } else if (mantissa == largest_mantissa) {
        value = std::numeric_limits<float>::quiet_NaN();
      }
    }
    table[static_cast<size_t>(bits)] = (bits & 0x80) != 0 ? -value : value;
  }
  return table;
}

void Widen(WeightType type, const uint8_t* source, float* row, std::vector<uint16_t>& halves) {
  const size_t columns = halves.size();
  switch (type) {
    case WeightType::kF32: std::memcpy(row, source, columns * sizeof(float)); return;
    case WeightType::kF16:
    case WeightType::kBF16:
      // Copied first: tensors of a file need not be aligned.
      std::memcpy(halves.data(), source, columns * sizeof(uint16_t));
      if (type == WeightType::kF16) {
        ggml_fp16_to_fp32_row(halves.data(), row, static_cast<int64_t>(columns));
      } else {
        for (size_t i = 0; i < columns; ++i) {
          const uint32_t bits = static_cast<uint32_t>(halves[i]) << 16;
          std::memcpy(&row[i], &bits, sizeof(bits));
        }
      }
      return;
    case WeightType::kF8E4M3:
    case WeightType::kF8E5M2: {
      static const std::array<float, 256> kE4M3 = TableOf8Bits(4, false);
      static const std::array<float, 256> kE5M2 = TableOf8Bits(5, true);
      const std::array<float, 256>& table = type == WeightType::kF8E4M3 ? kE4M3 : kE5M2;
      for (size_t i = 0; i < columns; ++i) row[i] = table[source[i]];
      return;
    }
  }
}

// Magnitudes from here on round to infinity.
float OverflowOf(WeightType type) {
  if (type == WeightType::kF16) return 65520.0f;
  if (type == WeightType::kBF16) return std::ldexp(511.0f, 119);  // half a step above the largest
  return std::numeric_limits<float>::infinity();
}

void Narrow(WeightType type, const float* row, uint8_t* target, std::vector<uint16_t>& halves) {
  const size_t columns = halves.size();
  if (type == WeightType::kF32) {
    std::memcpy(target, row, columns * sizeof(float));
    return;
  }
  if (type == WeightType::kF16) {
    ggml_fp32_to_fp16_row(row, halves.data(), static_cast<int64_t>(columns));
  } else {
    for (size_t i = 0; i < columns; ++i) {
      uint32_t bits = 0;
      std::memcpy(&bits, &row[i], sizeof(bits));
      halves[i] = static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);  // to the nearest, ties to even
    }
  }
  std::memcpy(target, halves.data(), columns * sizeof(uint16_t));
}

// The first of a row's weights that is NaN or infinite: all bits of its exponent are 1. `count` when there is none.
template <typename Bits>
size_t FirstNotFinite(const uint8_t* row, size_t count, Bits exponent) {
  const auto is_bad = [&](size_t i) {
    Bits bits = 0;
    std::memcpy(&bits, row + i * sizeof(Bits), sizeof(Bits));
    return (bits & exponent) == exponent;
  };
  bool any = false;
  for (size_t i = 0; i < count; ++i) any |= is_bad(i);
  if (!any) return count;
  size_t first = 0;
  while (!is_bad(first)) ++first;
  return first;
}

size_t FirstNotFinite(WeightType type, const uint8_t* row, size_t count) {
  if (type == WeightType::kF16) return FirstNotFinite<uint16_t>(row, count, 0x7c00);
  if (type == WeightType::kBF16) return FirstNotFinite<uint16_t>(row, count, 0x7f80);
  return FirstNotFinite<uint32_t>(row, count, 0x7f800000);
}

WeightResult CopyRows(WeightType type, size_t columns, std::span<const uint8_t> source, uint8_t* target) {
  const size_t row_bytes = columns * BytesOf(type);
  for (size_t i = 0; i < source.size() / row_bytes; ++i) {
    const size_t column = FirstNotFinite(type, source.data() + i * row_bytes, columns);
    if (column < columns) return {WeightFault::kNotFinite, i, column};
  }
  if (source.data() != target) std::memcpy(target, source.data(), source.size());
  return {};
}

}  // namespace

const char* NameOf(WeightType type) {
  switch (type) {
    case WeightType::kF32: return "F32";
    case WeightType::kF16: return "F16";
    case WeightType::kBF16: return "BF16";
    case WeightType::kF8E4M3: return "F8_E4M3";
    case WeightType::kF8E5M2: return "F8_E5M2";
  }
  return "";
}

std::optional<WeightType> ParseWeightType(const std::string& name) {
  for (const WeightType type :
       {WeightType::kF32, WeightType::kF16, WeightType::kBF16, WeightType::kF8E4M3, WeightType::kF8E5M2}) {
    if (name == NameOf(type)) return type;
  }
  return std::nullopt;
}

size_t BytesOf(WeightType type) {
  switch (type) {
    case WeightType::kF32: return 4;
    case WeightType::kF16:
    case WeightType::kBF16: return 2;
    case WeightType::kF8E4M3:
    case WeightType::kF8E5M2: return 1;
  }
  return 0;
}

WeightResult ConvertWeights(const WeightConversion& how, std::span<const uint8_t> source, uint8_t* target) {
  if (how.from == how.to && how.add == 0 && how.factors.empty()) return CopyRows(how.to, how.columns, source, target);
  const size_t from_bytes = how.columns * BytesOf(how.from);
  const size_t to_bytes = how.columns * BytesOf(how.to);
  const size_t rows = source.size() / from_bytes;
  const float overflow = OverflowOf(how.to);
  std::vector<float> row(how.columns);
  std::vector<uint16_t> halves(how.columns);
  for (size_t i = 0; i < rows; ++i) {
    Widen(how.from, source.data() + i * from_bytes, row.data(), halves);
    for (size_t column = 0; column < how.columns; ++column) {
      if (!std::isfinite(row[column])) return {WeightFault::kNotFinite, i, column};
      if (!how.factors.empty()) row[column] *= how.factors[column];
      row[column] += how.add;
      if (std::fabs(row[column]) >= overflow) return {WeightFault::kOverflow, i, column};
    }
    Narrow(how.to, row.data(), target + i * to_bytes, halves);
  }
  return {};
}

}  // namespace coldstart
