#include "loading/memory_breakdown.h"

#include <algorithm>

// Non-public header: llama_get_memory_breakdown is only declared here; the public API has just a printer of it.
#include "llama-ext.h"

namespace coldstart {

std::vector<DeviceMemory> MemoryBreakdown(const llama_context* context) {
  std::vector<DeviceMemory> devices;
  for (const auto& [buffer_type, bytes] : llama_get_memory_breakdown(context)) {
    ggml_backend_dev_t device = ggml_backend_buft_get_device(buffer_type);
    // Pinned host memory of a GPU backend is host memory; plain host buffers may name no device.
    if (device == nullptr || ggml_backend_buft_is_host(buffer_type)) {
      device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    }
    const std::string name = ggml_backend_dev_name(device);
    auto found =
        std::find_if(devices.begin(), devices.end(), [&](const DeviceMemory& known) { return known.name == name; });
    if (found == devices.end()) {
      size_t free = 0;
      size_t total = 0;
      ggml_backend_dev_memory(device, &free, &total);
      devices.push_back({name, ggml_backend_reg_name(ggml_backend_dev_backend_reg(device)), total, free, 0, 0, 0});
      found = devices.end() - 1;
    }
    found->weights += bytes.model;
    found->kv_cache += bytes.context;
    found->compute += bytes.compute;
  }
  return devices;
}

}  // namespace coldstart
