// Descriptions of tensors for bulk copies (bulk_copy.cuh), made on the host.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#include <cuda.h>
#else
#include "emulation_tensor_map.h"  // defines coldstart::cuda::TensorMap and MakeTensorMap
#endif

namespace coldstart::cuda {

#if defined(__CUDACC__)
using TensorMap = CUtensorMap;
#endif

enum class TensorElement { kF16, kBf16, kF32 };

// A tensor of three dimensions and the box that a copy moves.
struct TensorShape {
  TensorElement element;
  const void* base;          // a multiple of 16
  uint64_t extent[3];        // elements in each dimension, at least one
  uint64_t stride_bytes[2];  // from one element to the next in the second and third dimension, multiples of 16
  uint32_t box[3];           // elements of a box, at most 256 each
  bool swizzled;             // with the 128-byte swizzle: box[0] elements are 128 bytes. Otherwise rows as they are
};

// True when the map could be made. Host work only: allowed while a stream is being captured.
bool MakeTensorMap(const TensorShape& shape, TensorMap* map);

}  // namespace coldstart::cuda
