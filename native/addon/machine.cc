#include "addon/machine.h"

#include "addon/errors.h"
#include "backends/devices.h"
#include "backends/log.h"
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
      object.Set("memoryTotal", static_cast<double>(devices[i].memory_total));
      object.Set("memoryFree", static_cast<double>(devices[i].memory_free));
      array.Set(i, object);
    }
    return array;
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
    return object;
  });
}

}  // namespace coldstart
