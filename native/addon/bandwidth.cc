#include "addon/bandwidth.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "addon/errors.h"
#include "addon/options.h"
#include "backends/bandwidth.h"
#include "base/error.h"
#include "base/file.h"

namespace coldstart {

namespace {

template <typename Work>
Napi::Value Measure(Napi::Env env, Work work) {
  auto to_js = [](Napi::Env js, double value) -> Napi::Value { return Napi::Number::New(js, value); };
  return PromiseWorker<Work, decltype(to_js)>::Start(env, std::move(work), std::move(to_js));
}

}  // namespace

Napi::Value MeasureDiskBandwidth(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&] {
    return Measure(info.Env(),
                   [path = ReadString(info[0], "path")] { return ::coldstart::MeasureDiskBandwidth(path); });
  });
}

Napi::Value MeasureMemoryBandwidth(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&] {
    const double asked = ReadNumber(info[0], "threads");
    const uint32_t threads = asked >= 1 ? static_cast<uint32_t>(std::min(asked, 512.0)) : 1;  // NaN too
    return Measure(info.Env(), [threads] { return ::coldstart::MeasureMemoryBandwidth(threads); });
  });
}

Napi::Value ForgetFile(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    auto work = [path = ReadString(info[0], "path")]() -> std::optional<double> {
      const std::optional<File> file = File::Open(path);
      if (!file) {
        throw Error(ErrorCode::kLoadFailed, path + " cannot be read: " + File::LastError() + ".",
                    "Check the file's permissions.", {{"path", path}});
      }
      file->Forget();
      return file->Cached();
    };
    auto to_js = [](Napi::Env env, const std::optional<double>& cached) -> Napi::Value {
      return cached ? Napi::Number::New(env, *cached) : env.Undefined();
    };
    return PromiseWorker<decltype(work), decltype(to_js)>::Start(info.Env(), std::move(work), std::move(to_js));
  });
}

}  // namespace coldstart
