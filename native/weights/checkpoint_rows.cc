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

}  // namespace

std::optional<WeightType> ParseWeightType(const std::string& name) {
  if (name == "F32") return WeightType::kF32;
  if (name == "F16") return WeightType::kF16;
  if (name == "BF16") return WeightType::kBF16;
  if (name == "F8_E4M3") return WeightType::kF8E4M3;
  if (name == "F8_E5M2") return WeightType::kF8E5M2;
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

WeightResult ConvertWeights(const WeightConversion& how, std::span<const uint8_t> source, std::span<uint8_t> target) {
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
      row[column] += how.add;
      if (std::fabs(row[column]) >= overflow) return {WeightFault::kOverflow, i, column};
    }
    size_t place = i;
    if (how.interleave != 0) {
      const size_t half = how.interleave / 2;
      const size_t in_head = i % how.interleave;
      place = i - in_head + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
    }
    Narrow(how.to, row.data(), target.data() + place * to_bytes, halves);
  }
  return {};
}

}  // namespace coldstart
