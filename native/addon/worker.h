#pragma once

#include <napi.h>

namespace coldstart {

// addWorker(endpoint): Promise<void>
Napi::Value AddWorker(const Napi::CallbackInfo& info);

// serveWorker(endpoint, cacheDirectory, threads, devices, onEnd): serves on a thread of its own until the process ends;
// onEnd(error) is called when that cannot be.
void ServeWorker(const Napi::CallbackInfo& info);

// rpcVersion(): "7.0.0"
Napi::Value RpcVersion(const Napi::CallbackInfo& info);

}  // namespace coldstart
