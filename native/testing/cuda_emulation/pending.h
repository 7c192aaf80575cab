// What a thread has started and not yet waited for.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "emulation_tensor_map.h"  // NOLINT(build/include_subdir)

namespace coldstart::cuda::emulation {

struct PendingCopy {
  uint32_t group;
  unsigned char* to;
  const void* from;
  uint32_t bytes, valid;
};

struct PendingStore {
  uint32_t group;
  TensorMap map;
  const unsigned char* from;
  int x, y, z;
};

// The elements of both matrices, read when the first of a warp's threads needs them.
struct ProductMatrices {
  bool read = false;
  int count = 0;             // of k
  std::vector<double> a, b;  // 16 rows of the warp, all rows
};

struct PendingProduct {
  uint32_t group;
  float* d;
  int columns;
  uint64_t a, b;
  int type;
  bool accumulate;
  std::shared_ptr<ProductMatrices> matrices;
};

}  // namespace coldstart::cuda::emulation
