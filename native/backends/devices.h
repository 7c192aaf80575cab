// What this machine offers to compute on, as ggml's backend registry knows it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace coldstart {

struct Device {
  std::string name;         // "CPU", "CUDA0", …
  std::string description;  // "AMD EPYC …", "NVIDIA H100 …"
  std::string backend;      // "CPU", "CUDA", "Vulkan", …
  std::string type;         // "cpu", "gpu", "igpu", "accelerator"
  uint64_t memory_total;    // bytes; 0 when the backend does not say
  uint64_t memory_free;     // bytes
};

std::vector<Device> ListDevices();

// True when layers can be offloaded: some device is not the CPU.
bool HasGpu();

}  // namespace coldstart
