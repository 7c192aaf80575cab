#pragma once

#include <napi.h>

#include <vector>

#include "loading/memory_breakdown.h"

namespace coldstart {

// listDevices(): NativeDevice[], of the backends loaded so far
Napi::Value ListDevices(const Napi::CallbackInfo& info);

// loadBackend(path): Promise<{ name, devices }>
Napi::Value LoadBackend(const Napi::CallbackInfo& info);

// cpuVariant(): the path of the CPU backend that was chosen for this processor; undefined where it is linked
Napi::Value CpuVariantPath(const Napi::CallbackInfo& info);

// backendFeatures(backend): { [name]: value }
Napi::Value ListBackendFeatures(const Napi::CallbackInfo& info);

// versions(): { llamaCpp, ggml, systemInfo, buildType, compiler }
Napi::Value Versions(const Napi::CallbackInfo& info);

// lib/native.ts: NativeDeviceMemory[]
Napi::Array ToJs(Napi::Env env, const std::vector<DeviceMemory>& devices);

}  // namespace coldstart
