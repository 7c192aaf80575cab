#include "addon/worker.h"

#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "addon/errors.h"
#include "addon/options.h"
#include "backends/rpc.h"

namespace coldstart {

Napi::Value AddWorker(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    auto work = [endpoint = ReadString(info[0], "endpoint")] {
      ::coldstart::AddWorker(endpoint);
      return true;
    };
    auto nothing = [](Napi::Env env, bool) { return env.Undefined(); };
    return PromiseWorker<decltype(work), decltype(nothing)>::Start(info.Env(), std::move(work), nothing);
  });
}

void ServeWorker(const Napi::CallbackInfo& info) {
  AtEdge(info.Env(), [&] {
    ServeOptions options{.endpoint = ReadString(info[0], "endpoint"),
                         .cache_directory = ReadString(info[1], "cacheDirectory"),
                         .threads = static_cast<uint32_t>(ReadNumber(info[2], "threads")),
                         .devices = {}};
    if (!info[3].IsArray() || !info[4].IsFunction())
      throw Napi::TypeError::New(info.Env(), "serveWorker(endpoint, cacheDirectory, threads, devices, onEnd)");
    const auto names = info[3].As<Napi::Array>();
    for (uint32_t i = 0; i < names.Length(); ++i) options.devices.push_back(ReadString(names.Get(i), "devices"));

    auto on_end = Napi::ThreadSafeFunction::New(info.Env(), info[4].As<Napi::Function>(), "coldstart.worker", 0, 1);
    // Detached: upstream's server has no way to be stopped but the end of the process.
    std::thread([options = std::move(options), on_end]() mutable {
      Error reason(ErrorCode::kInternal, "", "");
      try {
        ::coldstart::ServeWorker(options);
      } catch (...) {
        reason = CurrentError("Serving");
      }
      on_end.BlockingCall([reason](Napi::Env env, Napi::Function call) { call.Call({ToJs(env, reason)}); });
      on_end.Release();
    }).detach();
  });
}

Napi::Value RpcVersion(const Napi::CallbackInfo& info) {
  const RpcProtocol version = RpcProtocolVersion();
  return Napi::String::New(info.Env(), std::to_string(version.major) + "." + std::to_string(version.minor) + "." +
                                           std::to_string(version.patch));
}

}  // namespace coldstart
