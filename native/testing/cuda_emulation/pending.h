// What a thread has started and not yet waited for.
#pragma once

#include <cstdint>

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

struct PendingProduct {
  uint32_t group;
  float* d;
  int columns;
  uint64_t a, b;
  int type;
  bool accumulate;
};

}  // namespace coldstart::cuda::emulation
