// How the KV cache of a context lies in memory, and how the cells of one sequence lie when they are taken out of it.
//
// Each layer has a tensor of keys and one of values. Of most a cell is a row: `size` bytes, `stride` from the next
// cell's. Values without flash attention are transposed: an element of all cells is a row, and a cell is a column in
// it.
//
// Taken out, tensors follow each other, each from a multiple of 16 bytes on: rows of cells without gaps, in the order
// in which the cells were named; transposed ones by element, each with all the cells. That is what is between the
// headers of llama.cpp's states of sequences, bytes and order, unless rows are encoded on the way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/quantize/types.h"

namespace coldstart::cuda {

enum class KvEncoding : uint32_t {
  kAsIs = 0,
  // Rows of F16 become blocks when they are taken out, and F16 again when they are put back.
  kQ8_0 = 1,
  kQ4_0 = 2,
};

struct KvTensor {
  uint8_t* data = nullptr;  // device memory
  uint64_t stride = 0;      // bytes; of rows from one cell to the next, of transposed ones from one element to the next
  uint32_t size = 0;        // of rows: bytes of one; of transposed ones: number of elements
  uint32_t element_bytes = 0;  // of transposed ones, 1, 2 or 4; 0: rows
  KvEncoding encoding = KvEncoding::kAsIs;
};

// Part of a tensor, as kernels get it.
struct KvPart {
  uint8_t* data;
  uint64_t stride;
  uint64_t staged;         // offset of its first byte in the staged bytes
  uint32_t size;           // of rows: bytes of one
  uint32_t element_bytes;  // 0: rows
  uint32_t first;          // cell of those named, or element
  uint32_t count;          // cells, or elements
  uint32_t vector_bytes;   // of rows as they are: the widest vectors that fit all addresses
  KvEncoding encoding;
};

constexpr uint32_t kKvThreads = 256;
constexpr uint32_t kKvVectorsPerThread = 4;
constexpr uint32_t kKvBlocksPerGroup = kKvThreads / 4;  // blocks of 32 values that one thread block encodes
constexpr uint32_t kKvCellsPerUnit = 8;                 // of a transposed tensor: what one lane of a warp moves

// Bytes of one cell's row, or of one element of all cells, when taken out.
inline uint64_t StagedRowBytes(const KvTensor& tensor, uint32_t cells) {
  if (tensor.element_bytes != 0) return uint64_t{tensor.element_bytes} * cells;
  switch (tensor.encoding) {
    case KvEncoding::kAsIs: return tensor.size;
    case KvEncoding::kQ8_0: return uint64_t{tensor.size} / 64 * 34;
    case KvEncoding::kQ4_0: return uint64_t{tensor.size} / 64 * 18;
  }
  return 0;
}

inline uint64_t StagedBytes(const KvTensor& tensor, uint32_t cells) {
  const uint64_t rows = tensor.element_bytes != 0 ? tensor.size : cells;
  return (rows * StagedRowBytes(tensor, cells) + 15) / 16 * 16;
}

inline bool IsValid(const KvTensor& tensor) {
  if (tensor.data == nullptr || tensor.size == 0) return false;
  if (tensor.element_bytes != 0) {
    return (tensor.element_bytes == 1 || tensor.element_bytes == 2 || tensor.element_bytes == 4) &&
           tensor.encoding == KvEncoding::kAsIs && tensor.stride % tensor.element_bytes == 0 &&
           reinterpret_cast<uintptr_t>(tensor.data) % tensor.element_bytes == 0;
  }
  if (tensor.encoding == KvEncoding::kAsIs) return true;
  return tensor.size % 64 == 0 && tensor.stride % 16 == 0 && reinterpret_cast<uintptr_t>(tensor.data) % 16 == 0;
}

// How many thread blocks a part needs.
inline uint32_t GroupsOf(const KvPart& part, uint32_t cells) {
  const auto divide = [](uint64_t a, uint64_t b) { return static_cast<uint32_t>((a + b - 1) / b); };
  if (part.element_bytes != 0)
    return divide(uint64_t{part.count} * divide(cells, 32 * kKvCellsPerUnit), kKvThreads / 32);
  if (part.encoding != KvEncoding::kAsIs) return divide(uint64_t{part.count} * (part.size / 64), kKvBlocksPerGroup);
  return divide(uint64_t{part.count} * (part.size / part.vector_bytes), kKvThreads * kKvVectorsPerThread);
}

// Parts that are moved by one launch, and the bytes they are staged in.
struct KvPiece {
  std::vector<KvPart> parts;
  uint64_t offset = 0;  // of its first byte in all that is taken out
  uint64_t bytes = 0;
  uint32_t groups = 0;  // of the part that needs most
};

// Divides the tensors into pieces of at most `capacity` bytes, tensors by rows where they are larger; a single row may
// be larger.
std::vector<KvPiece> PlanPieces(const std::vector<KvTensor>& tensors, uint32_t cells, uint64_t capacity);

}  // namespace coldstart::cuda
