#include "backends/devices.h"

#include "backends/log.h"
#include "ggml-backend.h"

namespace coldstart {

namespace {

const char* TypeName(enum ggml_backend_dev_type type) {
  switch (type) {
    case GGML_BACKEND_DEVICE_TYPE_CPU: return "cpu";
    case GGML_BACKEND_DEVICE_TYPE_GPU: return "gpu";
    case GGML_BACKEND_DEVICE_TYPE_IGPU: return "igpu";
    default: return "accelerator";
  }
}

}  // namespace

std::vector<Device> ListDevices() {
  StartLlama();
  std::vector<Device> devices;
  for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
    ggml_backend_dev_t device = ggml_backend_dev_get(i);
    size_t free = 0;
    size_t total = 0;
    ggml_backend_dev_memory(device, &free, &total);
    devices.push_back({ggml_backend_dev_name(device), ggml_backend_dev_description(device),
                       ggml_backend_reg_name(ggml_backend_dev_backend_reg(device)),
                       TypeName(ggml_backend_dev_type(device)), total, free});
  }
  return devices;
}

bool HasGpu() {
  for (const Device& device : ListDevices()) {
    if (device.type == "gpu" || device.type == "igpu") return true;
  }
  return false;
}

}  // namespace coldstart
