// class Engine of the addon (lib/native.ts: NativeEngine).
#pragma once

#include <napi.h>

#include <memory>

namespace coldstart {

class EngineBinding;

// shutdownEngines(): ends the threads of all engines of this environment, without a further event.
// For the end of the process: process.exit() runs the destructors of static objects, ggml's among them, while threads
// still compute.
void ShutdownEngines(const Napi::CallbackInfo& info);

class EngineObject : public Napi::ObjectWrap<EngineObject> {
 public:
  static Napi::Function Define(Napi::Env env);

  // new Engine(options, onEvents): starts to load. onEvents(events) is called on the JavaScript thread.
  explicit EngineObject(const Napi::CallbackInfo& info);
  ~EngineObject() override;

 private:
  // submit(request): its events carry request.id.
  void Submit(const Napi::CallbackInfo& info);
  // calibrate(request): likewise.
  void Calibrate(const Napi::CallbackInfo& info);
  void Embed(const Napi::CallbackInfo& info);
  // loadAdapter(id, path): its id is the request's.
  void LoadAdapter(const Napi::CallbackInfo& info);
  // unloadAdapter(id, adapter): no request under way uses it.
  void UnloadAdapter(const Napi::CallbackInfo& info);
  // cancel(id): unknown ids are ignored, the request may just have ended.
  void Cancel(const Napi::CallbackInfo& info);
  // restore(tokens, state, adapters): makes a saved state available to requests that start with its tokens.
  void Restore(const Napi::CallbackInfo& info);
  // status(): NativeStatus
  Napi::Value Status(const Napi::CallbackInfo& info);
  // metrics(): NativeMetrics
  Napi::Value Metrics(const Napi::CallbackInfo& info);
  // stop(): the event "closed" follows.
  void Stop(const Napi::CallbackInfo& info);
  // tokenize(text, addSpecial, parseSpecial): Promise<number[]>
  Napi::Value Tokenize(const Napi::CallbackInfo& info);
  // detokenize(tokens, renderSpecial): Promise<string>
  Napi::Value Detokenize(const Napi::CallbackInfo& info);

  std::shared_ptr<EngineBinding> binding_;
};

}  // namespace coldstart
