#include "addon/nvidia.h"

#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "addon/errors.h"
#include "addon/options.h"
#include "backends/nvml.h"

namespace coldstart {

namespace {

// Sets what there is; what is absent is no property.
template <typename T>
void SetPresent(Napi::Object object, const char* name, const std::optional<T>& value) {
  if (!value) return;
  if constexpr (std::is_same_v<T, std::string> || std::is_same_v<T, bool>) {
    object.Set(name, *value);
  } else {
    object.Set(name, static_cast<double>(*value));
  }
}

Napi::Object ToJs(Napi::Env env, const NvidiaGpu& gpu) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("index", gpu.index);
  if (!gpu.error.empty()) object.Set("error", gpu.error);
  SetPresent(object, "name", gpu.name);
  SetPresent(object, "uuid", gpu.uuid);
  SetPresent(object, "pciId", gpu.pci_id);
  SetPresent(object, "computeCapability", gpu.compute_capability);
  SetPresent(object, "memoryTotal", gpu.memory_total);
  SetPresent(object, "memoryFree", gpu.memory_free);
  SetPresent(object, "memoryUsed", gpu.memory_used);
  SetPresent(object, "utilization", gpu.utilization);
  SetPresent(object, "memoryUtilization", gpu.memory_utilization);
  SetPresent(object, "power", gpu.power);
  SetPresent(object, "powerLimit", gpu.power_limit);
  SetPresent(object, "temperature", gpu.temperature);
  SetPresent(object, "clock", gpu.clock);
  SetPresent(object, "maxClock", gpu.max_clock);
  SetPresent(object, "memoryClock", gpu.memory_clock);
  SetPresent(object, "maxMemoryClock", gpu.max_memory_clock);
  SetPresent(object, "memoryBusWidth", gpu.memory_bus_width);
  SetPresent(object, "throttleReasons", gpu.throttle_reasons);
  SetPresent(object, "eccCorrected", gpu.ecc_corrected);
  SetPresent(object, "eccUncorrected", gpu.ecc_uncorrected);
  SetPresent(object, "pcieGeneration", gpu.pcie_generation);
  SetPresent(object, "pcieWidth", gpu.pcie_width);
  SetPresent(object, "maxPcieGeneration", gpu.max_pcie_generation);
  SetPresent(object, "maxPcieWidth", gpu.max_pcie_width);
  SetPresent(object, "persistenceMode", gpu.persistence_mode);
  SetPresent(object, "migMode", gpu.mig_mode);
  if (gpu.processes) {
    Napi::Array processes = Napi::Array::New(env, gpu.processes->size());
    for (uint32_t i = 0; i < gpu.processes->size(); ++i) {
      Napi::Object process = Napi::Object::New(env);
      process.Set("pid", (*gpu.processes)[i].pid);
      SetPresent(process, "memory", (*gpu.processes)[i].memory);
      processes.Set(i, process);
    }
    object.Set("processes", processes);
  }
  return object;
}

Napi::Value ToJs(Napi::Env env, const NvmlReport& report) {
  Napi::Object object = Napi::Object::New(env);
  if (!report.library.empty()) object.Set("library", report.library);
  if (!report.error.empty()) object.Set("error", report.error);
  SetPresent(object, "driverVersion", report.driver_version);
  SetPresent(object, "cudaVersion", report.cuda_version);
  Napi::Array gpus = Napi::Array::New(env, report.gpus.size());
  for (uint32_t i = 0; i < report.gpus.size(); ++i) gpus.Set(i, ToJs(env, report.gpus[i]));
  object.Set("gpus", gpus);
  return object;
}

}  // namespace

Napi::Value QueryNvml(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    auto work = [path = ReadString(info[0], "path")] { return ::coldstart::QueryNvml(path); };
    auto to_js = [](Napi::Env env, const NvmlReport& report) { return ToJs(env, report); };
    return PromiseWorker<decltype(work), decltype(to_js)>::Start(info.Env(), std::move(work), std::move(to_js));
  });
}

}  // namespace coldstart
