#include "loading/memory_breakdown.h"

#include <algorithm>

#include "backends/devices.h"
// Non-public headers: llama_get_memory_breakdown is only declared in the first (the public API has just a printer), and
// a model's tensors and the devices of its layers can only be had with the second.
#include "llama-ext.h"
#include "llama-model.h"

namespace coldstart {

namespace {

ggml_backend_dev_t HostDevice() { return ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU); }

// Pinned host memory of a GPU backend is host memory; plain host buffers may name no device.
ggml_backend_dev_t DeviceOf(ggml_backend_buffer_type_t type) {
  ggml_backend_dev_t device = ggml_backend_buft_get_device(type);
  return device == nullptr || ggml_backend_buft_is_host(type) ? HostDevice() : device;
}

// The place of a device in the list of them all.
size_t PlaceOf(const std::string& name) {
  size_t i = 0;
  while (i < ggml_backend_dev_count() && ggml_backend_dev_name(ggml_backend_dev_get(i)) != name) ++i;
  return i;
}

// A mapped file counts from the first to the last tensor in host memory, with those in between that are elsewhere.
uint64_t WeightsInHostMemory(const llama_model* model) {
  uint64_t bytes = 0;
  for (const auto& [name, tensor] : llama_internal_get_tensor_map(model)) {
    if (tensor->buffer == nullptr) continue;
    ggml_backend_buffer_type_t type = ggml_backend_buffer_get_type(tensor->buffer);
    if (DeviceOf(type) == HostDevice()) bytes += ggml_backend_buft_get_alloc_size(type, tensor);
  }
  return bytes;
}

}  // namespace

std::vector<DeviceMemory> MemoryBreakdown(const llama_context* context) {
  const llama_model* model = llama_get_model(context);
  std::vector<DeviceMemory> devices;
  const auto find = [&](ggml_backend_dev_t device) -> DeviceMemory& {
    const std::string name = ggml_backend_dev_name(device);
    const auto found =
        std::find_if(devices.begin(), devices.end(), [&](const DeviceMemory& known) { return known.name == name; });
    if (found != devices.end()) return *found;
    const FreeMemory memory = MemoryOf(device);
    ggml_backend_reg_t backend = ggml_backend_dev_backend_reg(device);
    return devices.emplace_back(DeviceMemory{name, backend == nullptr ? "" : ggml_backend_reg_name(backend),
                                             ggml_backend_dev_description(device), memory.total, memory.free, 0, 0, 0,
                                             0});
  };
  for (const auto& [type, bytes] : llama_get_memory_breakdown(context)) {
    DeviceMemory& memory = find(DeviceOf(type));
    memory.weights += bytes.model;
    memory.kv_cache += bytes.context;
    memory.compute += bytes.compute;
  }
  for (int32_t layer = 0; layer < llama_model_n_layer(model); ++layer) ++find(model->dev_layer(layer)).layers;
  DeviceMemory& host = find(HostDevice());
  host.weights = std::min(host.weights, WeightsInHostMemory(model));
  // llama.cpp's order is that of pointers.
  std::sort(devices.begin(), devices.end(),
            [](const DeviceMemory& a, const DeviceMemory& b) { return PlaceOf(a.name) < PlaceOf(b.name); });
  return devices;
}

void AddContext(std::vector<DeviceMemory>& sum, const llama_context* context) {
  std::vector<DeviceMemory> memory = MemoryBreakdown(context);
  for (DeviceMemory& device : memory) device.weights = 0;
  Add(sum, memory);
}

void Add(std::vector<DeviceMemory>& sum, const std::vector<DeviceMemory>& more) {
  for (const DeviceMemory& device : more) {
    const auto found =
        std::find_if(sum.begin(), sum.end(), [&](const DeviceMemory& known) { return known.name == device.name; });
    if (found == sum.end()) {
      sum.push_back(device);
      sum.back().layers = 0;
      continue;
    }
    found->weights += device.weights;
    found->kv_cache += device.kv_cache;
    found->compute += device.compute;
  }
}

}  // namespace coldstart
