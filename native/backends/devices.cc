#include "backends/devices.h"

#include <algorithm>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <utility>

#include "backends/log.h"
#include "backends/plugins.h"
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

std::mutex claims_mutex;

std::unordered_map<std::string, uint64_t>& Claims() {
  static std::unordered_map<std::string, uint64_t> bytes;  // by device
  return bytes;
}

}  // namespace

FreeMemory MemoryOf(ggml_backend_dev_t device) {
  size_t free = 0;
  size_t total = 0;
  ggml_backend_dev_memory(device, &free, &total);
  const std::lock_guard lock(claims_mutex);
  const auto claim = Claims().find(ggml_backend_dev_name(device));
  const uint64_t claimed = claim == Claims().end() ? 0 : claim->second;
  return {total, std::min<uint64_t>(free, total - std::min<uint64_t>(claimed, total))};
}

MemoryClaim::MemoryClaim(std::string device, uint64_t bytes) : device_(std::move(device)), bytes_(bytes) {
  const std::lock_guard lock(claims_mutex);
  Claims()[device_] += bytes_;
}

MemoryClaim::MemoryClaim(MemoryClaim&& other) noexcept
    : device_(std::move(other.device_)), bytes_(std::exchange(other.bytes_, 0)) {}

MemoryClaim::~MemoryClaim() {
  if (bytes_ == 0) return;
  const std::lock_guard lock(claims_mutex);
  Claims()[device_] -= bytes_;
}

std::vector<Device> ListDevices() {
  StartLlama();
  const std::shared_lock registry(BackendRegistryMutex());
  std::vector<Device> devices;
  for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
    ggml_backend_dev_t device = ggml_backend_dev_get(i);
    const FreeMemory memory = MemoryOf(device);
    ggml_backend_dev_props props{};
    ggml_backend_dev_get_props(device, &props);
    devices.push_back({ggml_backend_dev_name(device), ggml_backend_dev_description(device),
                       ggml_backend_reg_name(ggml_backend_dev_backend_reg(device)),
                       props.device_id == nullptr ? "" : props.device_id, TypeName(ggml_backend_dev_type(device)),
                       memory.total, memory.free});
  }
  return devices;
}

BackendFeatures FeaturesOf(const std::string& backend) {
  StartLlama();
  const std::shared_lock registry(BackendRegistryMutex());
  BackendFeatures features;
  ggml_backend_reg_t found = ggml_backend_reg_by_name(backend.c_str());
  if (found == nullptr) return features;
  const auto get_features = reinterpret_cast<ggml_backend_get_features_t>(
      ggml_backend_reg_get_proc_address(found, "ggml_backend_get_features"));
  if (get_features == nullptr) return features;
  for (const auto* feature = get_features(found); feature->name != nullptr; ++feature) {
    features.emplace_back(feature->name, feature->value);
  }
  return features;
}

}  // namespace coldstart
