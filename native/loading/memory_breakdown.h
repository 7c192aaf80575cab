// Where a loaded model's memory really is.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

struct llama_context;
struct llama_model;

namespace coldstart {

struct DeviceMemory {
  std::string name;  // of the device, "CPU" for host memory
  std::string backend;
  std::string description;  // of a worker's device, its endpoint
  uint64_t total;           // bytes, of the device
  uint64_t free;            // bytes, now
  uint64_t weights;         // bytes allocated or mapped
  uint64_t kv_cache;        // bytes
  uint64_t compute;         // bytes
  uint32_t layers;          // whose weights are there, the output layer not counted
};

// Of a model loaded without weights: what would be allocated.
std::vector<DeviceMemory> MemoryBreakdown(const llama_context* context);

// Adds what another context of the same model takes.
void AddContext(std::vector<DeviceMemory>& sum, const llama_context* context);

// Adds what another model takes. `layers` stays that of the first.
void Add(std::vector<DeviceMemory>& sum, const std::vector<DeviceMemory>& more);

}  // namespace coldstart
