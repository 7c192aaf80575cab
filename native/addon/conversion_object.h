// class Conversion of the addon (lib/native.ts: NativeConversion).
#pragma once

#include <napi.h>

#include <atomic>
#include <memory>

namespace coldstart {

class LazyConversion;

class ConversionObject : public Napi::ObjectWrap<ConversionObject> {
 public:
  static Napi::Function Define(Napi::Env env);

  // new Conversion(source, recipe, keepParts), of a path or a checkpoint, with a recipe or undefined. Reads nothing
  // yet.
  explicit ConversionObject(const Napi::CallbackInfo& info);

 private:
  // plan(): Promise<NativeConversionPlan>
  Napi::Value Plan(const Napi::CallbackInfo& info);
  // write(paths, threads, device, onProgress): Promise<NativeWritten>
  Napi::Value Write(const Napi::CallbackInfo& info);
  // cancel(): the promise of write() is rejected with ABORTED soon
  void Cancel(const Napi::CallbackInfo& info);

  std::shared_ptr<LazyConversion> conversion_;
};

// fileTypes(): string[], the names of the mixtures that there are
Napi::Value ListFileTypes(const Napi::CallbackInfo& info);

}  // namespace coldstart
