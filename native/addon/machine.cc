#include "addon/machine.h"

#include "addon/errors.h"
#include "addon/options.h"
#include "backends/cpu_variant.h"
#include "backends/devices.h"
#include "backends/log.h"
#include "backends/plugins.h"
#include "llama.h"

namespace coldstart {

Napi::Value ListDevices(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return AtEdge(env, [&]() -> Napi::Value {
    const std::vector<Device> devices = ::coldstart::ListDevices();
    Napi::Array array = Napi::Array::New(env, devices.size());
    for (uint32_t i = 0; i < devices.size(); ++i) {
      Napi::Object object = Napi::Object::New(env);
      object.Set("name", devices[i].name);
      object.Set("description", devices[i].description);
      object.Set("backend", devices[i].backend);
      object.Set("type", devices[i].type);
      if (!devices[i].pci_id.empty()) object.Set("pciId", devices[i].pci_id);
      object.Set("memoryTotal", static_cast<double>(devices[i].memory_total));
      object.Set("memoryFree", static_cast<double>(devices[i].memory_free));
      array.Set(i, object);
    }
    return array;
  });
}

Napi::Value LoadBackend(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    auto work = [path = ReadString(info[0], "path")] { return LoadBackendPlugin(path); };
    auto to_js = [](Napi::Env env, const BackendPlugin& plugin) -> Napi::Value {
      Napi::Array devices = Napi::Array::New(env, plugin.devices.size());
      for (uint32_t i = 0; i < plugin.devices.size(); ++i) devices.Set(i, plugin.devices[i]);
      Napi::Object object = Napi::Object::New(env);
      object.Set("name", plugin.name);
      object.Set("devices", devices);
      return object;
    };
    return PromiseWorker<decltype(work), decltype(to_js)>::Start(info.Env(), std::move(work), std::move(to_js));
  });
}

Napi::Array ToJs(Napi::Env env, const std::vector<DeviceMemory>& devices) {
  Napi::Array array = Napi::Array::New(env, devices.size());
  for (uint32_t i = 0; i < devices.size(); ++i) {
    const DeviceMemory& memory = devices[i];
    Napi::Object device = Napi::Object::New(env);
    device.Set("name", memory.name);
    device.Set("backend", memory.backend);
    device.Set("description", memory.description);
    device.Set("memoryTotal", static_cast<double>(memory.total));
    device.Set("memoryFree", static_cast<double>(memory.free));
    device.Set("weights", static_cast<double>(memory.weights));
    device.Set("kvCache", static_cast<double>(memory.kv_cache));
    device.Set("compute", static_cast<double>(memory.compute));
    device.Set("layers", memory.layers);
    array.Set(i, device);
  }
  return array;
}

Napi::Value CpuVariantPath(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    StartLlama();
    return CpuVariant().empty() ? info.Env().Undefined() : Napi::String::New(info.Env(), CpuVariant());
  });
}

Napi::Value ListBackendFeatures(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return AtEdge(env, [&]() -> Napi::Value {
    Napi::Object object = Napi::Object::New(env);
    for (const auto& [name, value] : FeaturesOf(ReadString(info[0], "backend"))) object.Set(name, value);
    return object;
  });
}

Napi::Value Versions(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return AtEdge(env, [&]() -> Napi::Value {
    StartLlama();
    Napi::Object object = Napi::Object::New(env);
    object.Set("llamaCpp", llama_version());
    object.Set("ggml", ggml_version());
    object.Set("systemInfo", llama_print_system_info());
    object.Set("buildType", COLDSTART_BUILD_TYPE);
    object.Set("compiler", COLDSTART_COMPILER);
    return object;
  });
}

}  // namespace coldstart
