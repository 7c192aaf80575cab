// What describes a tensor to bulk copies. On a GPU it is opaque; here it is what was said of the tensor.
#pragma once

#include <cstdint>

namespace coldstart::cuda {

struct TensorMap {
  const void* base = nullptr;
  uint32_t element_bytes = 0;
  uint64_t extent[3] = {};
  uint64_t stride_bytes[2] = {};
  uint32_t box[3] = {};
  bool swizzled = false;
};

}  // namespace coldstart::cuda
