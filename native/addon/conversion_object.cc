#include "addon/conversion_object.h"

#include <memory>
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
#include "weights/gpu_quantizer.h"

namespace coldstart {

// Reads the model's headers when it is first asked for, on whatever thread asks.
class LazyConversion {
 public:
  LazyConversion(ModelSource source, std::optional<Recipe> recipe, bool keep_parts)
      : source_(std::move(source)), recipe_(std::move(recipe)), keep_parts_(keep_parts) {}

  const Conversion& get() {
    const std::lock_guard lock(mutex_);
    if (!conversion_) {
      if (const auto* path = std::get_if<std::string>(&source_)) {
        CheckModelFiles(*path);
      } else {
        CheckModelHeader(std::get<std::shared_ptr<const Checkpoint>>(source_)->header);
      }
      conversion_.emplace(source_, recipe_, keep_parts_);
    }
    return *conversion_;
  }

  std::atomic<bool> cancelled = false;

 private:
  ModelSource source_;
  std::optional<Recipe> recipe_;
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

// What did the work.
struct Written {
  std::string device;
  std::string bound;  // what bounded a GPU
  std::string note;   // why not a GPU
};

// What `device` means: "cpu", "cuda", or "auto", which takes a GPU where that is possible.
std::unique_ptr<GpuQuantizer> ChooseDevice(const std::string& device, size_t threads, Written* written) {
  written->device = "CPU";
  if (device == "cpu") return nullptr;
  std::string why;
  std::unique_ptr<GpuQuantizer> gpu = GpuQuantizer::Create(threads, &why);
  if (gpu != nullptr) {
    written->device = gpu->device();
  } else if (device == "cuda") {
    throw Error(ErrorCode::kBackendUnavailable, "No GPU can quantize: " + why + ".",
                "Build the CUDA backend (npm run build:cuda), or quantize on the CPU (device: \"cpu\").",
                {{"reason", why}});
  } else {
    written->note = why;
  }
  return gpu;
}

}  // namespace

Napi::Function ConversionObject::Define(Napi::Env env) {
  return DefineClass(
      env, "Conversion",
      {InstanceMethod<&ConversionObject::Plan>("plan"), InstanceMethod<&ConversionObject::Write>("write"),
       InstanceMethod<&ConversionObject::Cancel>("cancel")});
}

ConversionObject::ConversionObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ConversionObject>(info) {
  AtEdge(info.Env(), [&] {
    ModelSource source;
    if (info[0].IsString()) {
      source = ReadString(info[0], "path");
    } else {
      source = ReadCheckpoint(info[0]);
    }
    std::optional<Recipe> recipe;
    if (info[1].IsObject()) recipe = ReadRecipe(info[1].As<Napi::Object>());
    conversion_ =
        std::make_shared<LazyConversion>(std::move(source), std::move(recipe), ReadBool(info[2], "keepParts"));
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
    if (!info[0].IsArray() || !info[3].IsFunction())
      throw Napi::TypeError::New(info.Env(), "write(paths, threads, device, onProgress)");
    std::vector<std::string> paths;
    const auto array = info[0].As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); ++i) paths.push_back(ReadString(array.Get(i), "paths"));
    const auto threads = static_cast<size_t>(ReadNumber(info[1], "threads"));
    auto work = [conversion = conversion_, paths = std::move(paths), threads, device = ReadString(info[2], "device"),
                 progress = Progress(info.Env(), info[3].As<Napi::Function>())]() mutable {
      const Conversion& plan = conversion->get();
      Written written;
      try {
        const std::unique_ptr<GpuQuantizer> gpu = ChooseDevice(device, threads, &written);
        if (paths.size() != plan.files().size()) {
          throw Error(ErrorCode::kInvalidOption, "There is not one path for each file.",
                      "This is checked in lib/; please report it.");
        }
        WriteConversion(plan, paths, threads, gpu.get(), [&](float fraction) {
          progress.Report(fraction);
          return !conversion->cancelled;
        });
        if (gpu != nullptr) written.bound = gpu->Bound();
      } catch (...) {
        progress.End();
        throw;
      }
      progress.End();
      return written;
    };
    auto to_js = [](Napi::Env env, const Written& written) -> Napi::Value {
      Napi::Object object = Napi::Object::New(env);
      object.Set("device", written.device);
      object.Set("bound", written.bound);
      object.Set("note", written.note);
      return object;
    };
    return PromiseWorker<decltype(work), decltype(to_js)>::Start(info.Env(), std::move(work), to_js);
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
