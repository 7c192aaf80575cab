#include "addon/conversion_object.h"

#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "addon/errors.h"
#include "addon/options.h"
#include "loading/preflight.h"
#include "weights/conversion.h"
#include "weights/convert_file.h"

namespace coldstart {

// Reads the model's headers when it is first asked for, on whatever thread asks.
class LazyConversion {
 public:
  LazyConversion(std::string path, Recipe recipe, bool keep_parts)
      : path_(std::move(path)), recipe_(std::move(recipe)), keep_parts_(keep_parts) {}

  const Conversion& get() {
    const std::lock_guard lock(mutex_);
    if (!conversion_) {
      CheckModelFiles(path_);
      conversion_.emplace(path_, recipe_, keep_parts_);
    }
    return *conversion_;
  }

  std::atomic<bool> cancelled = false;

 private:
  std::string path_;
  Recipe recipe_;
  bool keep_parts_;
  std::mutex mutex_;
  std::optional<Conversion> conversion_;
};

namespace {

Napi::Value PlanToJs(Napi::Env env, const Conversion& conversion) {
  Napi::Object plan = Napi::Object::New(env);
  Napi::Array files = Napi::Array::New(env);
  for (const ConvertedFile& file : conversion.files()) files.Set(files.Length(), static_cast<double>(file.size));
  plan.Set("files", files);
  Napi::Array tensors = Napi::Array::New(env);
  for (const ConvertedTensor& tensor : conversion.tensors()) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("name", tensor.name);
    object.Set("from", ggml_type_name(tensor.from));
    object.Set("to", ggml_type_name(tensor.to));
    object.Set("parameters", static_cast<double>(tensor.columns * tensor.rows * tensor.matrices));
    object.Set("sourceBytes", static_cast<double>(tensor.SourceBytes()));
    object.Set("bytes", static_cast<double>(tensor.Bytes()));
    tensors.Set(tensors.Length(), object);
  }
  plan.Set("tensors", tensors);
  return plan;
}

// Fractions for a JavaScript function, from the thread of the work. One that JavaScript has not come to is left out.
class Progress {
 public:
  Progress(Napi::Env env, const Napi::Function& call)
      : call_(Napi::ThreadSafeFunction::New(env, call, "coldstart.progress", 1, 1)) {}

  void Report(float fraction) {
    call_.NonBlockingCall(
        [fraction](Napi::Env env, Napi::Function call) { call.Call({Napi::Number::New(env, fraction)}); });
  }
  void End() { call_.Release(); }

 private:
  Napi::ThreadSafeFunction call_;
};

}  // namespace

Napi::Function ConversionObject::Define(Napi::Env env) {
  return DefineClass(
      env, "Conversion",
      {InstanceMethod<&ConversionObject::Plan>("plan"), InstanceMethod<&ConversionObject::Write>("write"),
       InstanceMethod<&ConversionObject::Cancel>("cancel")});
}

ConversionObject::ConversionObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ConversionObject>(info) {
  AtEdge(info.Env(), [&] {
    if (!info[1].IsObject()) throw Napi::TypeError::New(info.Env(), "new Conversion(path, recipe, keepParts)");
    conversion_ = std::make_shared<LazyConversion>(ReadString(info[0], "path"), ReadRecipe(info[1].As<Napi::Object>()),
                                                   ReadBool(info[2], "keepParts"));
  });
}

Napi::Value ConversionObject::Plan(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    auto work = [conversion = conversion_] { return &conversion->get(); };
    auto to_js = [conversion = conversion_](Napi::Env env, const Conversion* plan) { return PlanToJs(env, *plan); };
    return PromiseWorker<decltype(work), decltype(to_js)>::Start(info.Env(), std::move(work), std::move(to_js));
  });
}

Napi::Value ConversionObject::Write(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    if (!info[0].IsArray() || !info[2].IsFunction())
      throw Napi::TypeError::New(info.Env(), "write(paths, threads, onProgress)");
    std::vector<std::string> paths;
    const auto array = info[0].As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); ++i) paths.push_back(ReadString(array.Get(i), "paths"));
    const auto threads = static_cast<size_t>(ReadNumber(info[1], "threads"));
    auto work = [conversion = conversion_, paths = std::move(paths), threads,
                 progress = Progress(info.Env(), info[2].As<Napi::Function>())]() mutable {
      const Conversion& plan = conversion->get();
      try {
        if (paths.size() != plan.files().size()) {
          throw Error(ErrorCode::kInvalidOption, "There is not one path for each file.",
                      "This is checked in lib/; please report it.");
        }
        WriteConversion(plan, paths, threads, [&](float fraction) {
          progress.Report(fraction);
          return !conversion->cancelled;
        });
      } catch (...) {
        progress.End();
        throw;
      }
      progress.End();
      return true;
    };
    auto nothing = [](Napi::Env env, bool) { return env.Undefined(); };
    return PromiseWorker<decltype(work), decltype(nothing)>::Start(info.Env(), std::move(work), nothing);
  });
}

void ConversionObject::Cancel(const Napi::CallbackInfo&) { conversion_->cancelled = true; }

Napi::Value ListFileTypes(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    Napi::Array names = Napi::Array::New(info.Env());
    for (const std::string& name : FileTypeNames()) names.Set(names.Length(), name);
    return names;
  });
}

}  // namespace coldstart
