// Exceptions of native/ as JavaScript errors. Nothing else may leave the addon.
#pragma once

#include <napi.h>

#include <optional>
#include <type_traits>
#include <unordered_set>
#include <utility>

#include "base/error.h"

namespace coldstart {

class EngineBinding;

// What one JavaScript environment (the main thread, a worker) keeps of the addon.
struct AddonData {
  Napi::FunctionReference error_class;         // ColdstartError of lib/errors.ts
  std::unordered_set<EngineBinding*> engines;  // that have a thread
};

// setErrorClass(class): called once by lib/native.ts.
void SetErrorClass(const Napi::CallbackInfo& info);

// A ColdstartError (a plain Error before setErrorClass).
Napi::Value ToJs(Napi::Env env, const Error& error);

// Runs `body` at the addon's edge: native exceptions become JavaScript ones.
template <typename Body>
auto AtEdge(Napi::Env env, Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw Napi::Error(env, ToJs(env, CurrentError("coldstart")));
  }
}

// Runs `work` on a thread of libuv's pool and settles a promise with what `to_js` makes of its result.
template <typename Work, typename ToValue>
class PromiseWorker : public Napi::AsyncWorker {
 public:
  PromiseWorker(Napi::Env env, Work work, ToValue to_js)
      : Napi::AsyncWorker(env), deferred_(env), work_(std::move(work)), to_js_(std::move(to_js)) {}

  static Napi::Promise Start(Napi::Env env, Work work, ToValue to_js) {
    // Napi::AsyncWorker deletes itself when it is done.
    auto* worker = new PromiseWorker(env, std::move(work), std::move(to_js));
    const Napi::Promise promise = worker->deferred_.Promise();
    worker->Queue();
    return promise;
  }

 protected:
  void Execute() override {
    try {
      result_.emplace(work_());
    } catch (...) {
      error_.emplace(CurrentError("coldstart"));
    }
  }
  void OnOK() override {
    const Napi::HandleScope scope(Env());
    if (error_) {
      deferred_.Reject(ToJs(Env(), *error_));
    } else {
      deferred_.Resolve(to_js_(Env(), *result_));
    }
  }

 private:
  Napi::Promise::Deferred deferred_;
  Work work_;
  ToValue to_js_;
  std::optional<std::invoke_result_t<Work>> result_;
  std::optional<Error> error_;
};

}  // namespace coldstart
