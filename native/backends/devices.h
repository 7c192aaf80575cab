// What this machine offers to compute on, as ggml's backend registry knows it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ggml-backend.h"

namespace coldstart {

struct Device {
  std::string name;         // "CPU", "CUDA0", …
  std::string description;  // "AMD EPYC …", "NVIDIA H100 …"
  std::string backend;      // "CPU", "CUDA", "Vulkan", …
  std::string pci_id;       // "0000:c1:00.0"; empty when it is not on a PCI bus
  std::string type;         // "cpu", "gpu", "igpu", "accelerator"
  uint64_t memory_total;    // bytes; 0 when the backend does not say
  uint64_t memory_free;     // bytes
};

std::vector<Device> ListDevices();

// What a backend was built with, by ggml's names: {"AVX2", "1"}, {"OPENMP", "1"}, … Empty when it does not say.
using BackendFeatures = std::vector<std::pair<std::string, std::string>>;

BackendFeatures FeaturesOf(const std::string& backend);

struct FreeMemory {
  uint64_t total;  // bytes; 0 when the backend does not say
  uint64_t free;   // bytes
};

// What the backend says, and not more than what this process's own claims leave: some drivers never count what is used.
FreeMemory MemoryOf(ggml_backend_dev_t device);

// Bytes of a device that are in use as long as this lives.
class MemoryClaim {
 public:
  MemoryClaim(std::string device, uint64_t bytes);
  ~MemoryClaim();
  MemoryClaim(MemoryClaim&& other) noexcept;
  MemoryClaim& operator=(MemoryClaim&&) = delete;

 private:
  std::string device_;
  uint64_t bytes_;
};

}  // namespace coldstart
