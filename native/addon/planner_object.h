// class Planner of the addon (lib/native.ts: NativePlanner).
#pragma once

#include <napi.h>

#include <memory>

namespace coldstart {

class LazyPlanner;

class PlannerObject : public Napi::ObjectWrap<PlannerObject> {
 public:
  static Napi::Function Define(Napi::Env env);

  // new Planner(path) or new Planner([Uint8Array, …]), the first bytes of each of a model's files. Reads nothing yet.
  explicit PlannerObject(const Napi::CallbackInfo& info);

 private:
  // measure(options): Promise<NativeDemand>, for an engine's options
  Napi::Value Measure(const Napi::CallbackInfo& info);

  std::shared_ptr<LazyPlanner> planner_;
};

}  // namespace coldstart
