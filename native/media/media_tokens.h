// Pictures and recordings among a text's tokens. Each of their rows stands there as a number below 0, so that texts
// begin alike as far as their pictures are the same ones. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace coldstart {

// Rows of a piece, from the first to the last. A piece takes `positions` of the text's, which can be fewer than its
// rows. `id` tells what it shows.
std::vector<int32_t> MediaTokens(std::string_view id, uint32_t rows, uint32_t positions);

inline bool IsMedia(int32_t token) { return token < 0; }

// The position after the first `length` tokens, which end with no piece that is cut.
uint32_t PositionAfter(std::span<const int32_t> tokens, uint32_t length);

// The same, or fewer tokens: so many that no piece is cut.
uint32_t WithoutCutPiece(std::span<const int32_t> tokens, uint32_t length);

}  // namespace coldstart
