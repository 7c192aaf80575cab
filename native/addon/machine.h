#pragma once

#include <napi.h>

namespace coldstart {

// listDevices(): Device[]
Napi::Value ListDevices(const Napi::CallbackInfo& info);

// versions(): { llamaCpp, ggml, systemInfo }
Napi::Value Versions(const Napi::CallbackInfo& info);

}  // namespace coldstart
