#include "cuda/kv/cells.h"

#include <algorithm>

namespace coldstart::cuda {

namespace {

// So that the vectors of a part can be counted in 32 bits.
constexpr uint64_t kMostBytes = uint64_t{1} << 31;

uint32_t WidestVector(const KvTensor& tensor) {
  const uint64_t all = reinterpret_cast<uintptr_t>(tensor.data) | tensor.stride | tensor.size;
  for (const uint32_t bytes : {16u, 8u, 4u, 2u}) {
    if (all % bytes == 0) return bytes;
  }
  return 1;
}

}  // namespace

std::vector<KvPiece> PlanPieces(const std::vector<KvTensor>& tensors, uint32_t cells, uint64_t capacity) {
  std::vector<KvPiece> pieces;
  uint64_t offset = 0;  // of the next part, in all that is taken out
  for (const KvTensor& tensor : tensors) {
    const uint64_t row_bytes = StagedRowBytes(tensor, cells);
    const uint32_t rows = tensor.element_bytes != 0 ? tensor.size : cells;
    const uint64_t start = offset;
    for (uint32_t first = 0; first < rows;) {
      const uint64_t used = pieces.empty() ? 0 : offset - pieces.back().offset;
      // Parts start at multiples of 16 bytes, so that vectors fit: in steps of 16 rows they do wherever a tensor is
      // cut.
      uint64_t fitting = (used < capacity ? capacity - used : 0) / row_bytes;
      if (fitting < rows - first) fitting = fitting / 16 * 16;
      if (pieces.empty() || fitting == 0) {
        if (pieces.empty() || pieces.back().bytes > 0) {
          pieces.push_back({});
          pieces.back().offset = offset;
          if (capacity / row_bytes > 0) continue;
        }
        fitting = std::max<uint64_t>(fitting, 16);
      }
      const uint64_t most = std::max<uint64_t>(16, kMostBytes / std::max<uint64_t>(row_bytes, tensor.size) / 16 * 16);
      const auto count = static_cast<uint32_t>(std::min({fitting, uint64_t{rows - first}, most}));
      KvPiece& piece = pieces.back();
      const KvPart part{tensor.data, tensor.stride, offset - piece.offset, tensor.size,    tensor.element_bytes,
                        first,       count,         WidestVector(tensor),  tensor.encoding};
      piece.parts.push_back(part);
      piece.groups = std::max(piece.groups, GroupsOf(part, cells));
      first += count;
      offset = start + first * row_bytes;
      if (first == rows) offset = (offset + 15) / 16 * 16;
      piece.bytes = offset - piece.offset;
    }
  }
  return pieces;
}

}  // namespace coldstart::cuda
