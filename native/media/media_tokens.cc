#include "media/media_tokens.h"

#include <algorithm>

namespace coldstart {

namespace {

// A number below 0: 28 bits of what the row shows, whether it is its piece's last one, and whether it takes a position.
constexpr uint32_t kNegative = 0x8000'0000;
constexpr uint32_t kContents = 0x3fff'fffc;
constexpr uint32_t kLast = 2;
constexpr uint32_t kAdvances = 1;

uint64_t Mix(uint64_t value) {  // SplitMix64's
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

uint64_t HashOf(std::string_view text) {  // FNV-1a
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

bool Has(int32_t token, uint32_t bit) { return (static_cast<uint32_t>(token) & bit) != 0; }

}  // namespace

std::vector<int32_t> MediaTokens(std::string_view id, uint32_t rows, uint32_t positions) {
  std::vector<int32_t> tokens;
  const uint64_t hash = HashOf(id);
  for (uint32_t row = 0; row < rows; ++row) {
    uint32_t token = kNegative | (static_cast<uint32_t>(Mix(hash + row)) & kContents);
    if (row + 1 == rows) token |= kLast;
    if (row < positions) token |= kAdvances;
    tokens.push_back(static_cast<int32_t>(token));
  }
  return tokens;
}

uint32_t PositionAfter(std::span<const int32_t> tokens, uint32_t length) {
  const auto first = tokens.first(length);
  return static_cast<uint32_t>(std::count_if(first.begin(), first.end(),
                                             [](int32_t token) { return !IsMedia(token) || Has(token, kAdvances); }));
}

uint32_t WithoutCutPiece(std::span<const int32_t> tokens, uint32_t length) {
  while (length > 0 && IsMedia(tokens[length - 1]) && !Has(tokens[length - 1], kLast)) --length;
  return length;
}

}  // namespace coldstart
