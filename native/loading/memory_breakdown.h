// Where a loaded model's memory really is.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

struct llama_context;

namespace coldstart {

struct DeviceMemory {
  std::string name;  // of the device, "CPU" for host memory
  std::string backend;
  uint64_t total;     // bytes, of the device
  uint64_t free;      // bytes, now
  uint64_t weights;   // bytes allocated or mapped
  uint64_t kv_cache;  // bytes
  uint64_t compute;   // bytes
};

std::vector<DeviceMemory> MemoryBreakdown(const llama_context* context);

}  // namespace coldstart
