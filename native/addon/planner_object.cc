#include "addon/planner_object.h"

#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "addon/errors.h"
#include "addon/machine.h"
#include "addon/options.h"
#include "engine/planner.h"

namespace coldstart {

// Reads the model's header when it is first asked for, on whatever thread asks.
class LazyPlanner {
 public:
  explicit LazyPlanner(std::string path) : path_(std::move(path)) {}
  explicit LazyPlanner(std::vector<std::string> headers) : headers_(std::move(headers)) {}

  const Planner& get() {
    const std::lock_guard lock(mutex_);
    if (!planner_) planner_.emplace(headers_.empty() ? Skeleton::OfFile(path_) : Skeleton::OfHeaders(headers_));
    return *planner_;
  }

 private:
  std::string path_;
  std::vector<std::string> headers_;
  std::mutex mutex_;
  std::optional<Planner> planner_;
};

Napi::Function PlannerObject::Define(Napi::Env env) {
  return DefineClass(env, "Planner", {InstanceMethod<&PlannerObject::Measure>("measure")});
}

PlannerObject::PlannerObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<PlannerObject>(info) {
  AtEdge(info.Env(), [&] {
    if (!info[0].IsArray()) {
      planner_ = std::make_shared<LazyPlanner>(ReadString(info[0], "path"));
      return;
    }
    const auto array = info[0].As<Napi::Array>();
    std::vector<std::string> headers;
    for (uint32_t i = 0; i < array.Length(); ++i) {
      const std::vector<uint8_t> bytes = ReadBytes(array.Get(i), "header");
      headers.emplace_back(bytes.begin(), bytes.end());
    }
    planner_ = std::make_shared<LazyPlanner>(std::move(headers));
  });
}

Napi::Value PlannerObject::Measure(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    if (!info[0].IsObject()) throw Napi::TypeError::New(info.Env(), "measure(options)");
    auto work = [planner = planner_, options = ReadEngineOptions(info[0].As<Napi::Object>())] {
      return planner->get().Measure(options);
    };
    auto to_js = [](Napi::Env env, const Demand& demand) -> Napi::Value {
      Napi::Object object = Napi::Object::New(env);
      object.Set("devices", ToJs(env, demand.devices));
      object.Set("layers", demand.layers);
      object.Set("trainedContextLength", demand.trained_context_length);
      object.Set("contextLength", demand.context_length);
      object.Set("kvCells", demand.kv_cells);
      return object;
    };
    return PromiseWorker<decltype(work), decltype(to_js)>::Start(info.Env(), std::move(work), std::move(to_js));
  });
}

}  // namespace coldstart
