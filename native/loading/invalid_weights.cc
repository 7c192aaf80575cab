#include "loading/invalid_weights.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace coldstart {

namespace {

constexpr size_t kAtOnce = 4096;  // weights; a multiple of every block

bool IsInvalid(float value) { return (std::bit_cast<uint32_t>(value) & 0x7f80'0000u) == 0x7f80'0000u; }
bool IsInvalid(double value) {
  return (std::bit_cast<uint64_t>(value) & 0x7ff0'0000'0000'0000u) == 0x7ff0'0000'0000'0000u;
}

template <typename Float>
std::optional<size_t> FindInvalid(std::span<const Float> values) {
  // All are looked at before one is looked for, which compilers make wide operations of.
  bool any = false;
  for (const Float value : values) any |= IsInvalid(value);
  if (!any) return std::nullopt;
  const auto found = std::find_if(values.begin(), values.end(), [](Float value) { return IsInvalid(value); });
  return static_cast<size_t>(found - values.begin());
}

// Through a buffer, which `read(index, destination, count)` fills with weights.
template <typename Float, typename Read>
std::optional<size_t> Scan(size_t weights, const Read& read) {
  std::array<Float, kAtOnce> buffer;
  for (size_t i = 0; i < weights; i += kAtOnce) {
    const size_t count = std::min(kAtOnce, weights - i);
    read(i, buffer.data(), count);
    if (const auto found = FindInvalid(std::span<const Float>(buffer.data(), count))) return i + *found;
  }
  return std::nullopt;
}

}  // namespace

std::optional<size_t> FindInvalidWeight(ggml_type type, std::span<const uint8_t> bytes) {
  const size_t block_bytes = ggml_type_size(type);
  const auto block = static_cast<size_t>(ggml_blck_size(type));
  const size_t blocks = bytes.size() / block_bytes;
  const size_t weights = blocks * block;
  const auto copy = [&](size_t i, auto* destination, size_t count) {
    std::memcpy(destination, bytes.data() + i * sizeof(*destination), count * sizeof(*destination));
  };
  if (type == GGML_TYPE_F32) return Scan<float>(weights, copy);
  if (type == GGML_TYPE_F64) return Scan<double>(weights, copy);
  const ggml_to_float_t to_float = ggml_get_type_traits(type)->to_float;
  if (to_float == nullptr) return std::nullopt;
  const auto found = Scan<float>(weights, [&](size_t i, float* destination, size_t count) {
    to_float(bytes.data() + i / block * block_bytes, destination, static_cast<int64_t>(count));
  });
  if (found) return found;
  // Encodings that ggml refuses although they give numbers. Second, because it says so on standard error.
  if (ggml_validate_row_data(type, bytes.data(), blocks * block_bytes)) return std::nullopt;
  size_t i = 0;
  while (i + 1 < blocks && ggml_validate_row_data(type, bytes.data() + i * block_bytes, block_bytes)) ++i;
  return i * block;
}

}  // namespace coldstart
