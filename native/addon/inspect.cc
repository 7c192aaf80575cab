#include "addon/inspect.h"

#include <cstdint>
#include <string_view>
#include <utility>
#include <variant>

#include "addon/errors.h"
#include "addon/gguf_convert.h"
#include "addon/options.h"
#include "base/error.h"
#include "llama.h"
#include "loading/preflight.h"

namespace coldstart {

namespace {

GgufLimits ReadLimits(const Napi::Value& array_limit) {
  const double limit = ReadNumber(array_limit, "arrayLimit");
  return {.array_elements = limit < 9e15 ? static_cast<uint64_t>(limit) : UINT64_MAX};
}

Napi::Object InspectedToJs(Napi::Env env, const GgufFile& file) {
  Napi::Object header = ToJs(env, file);
  const uint64_t type = file.Unsigned("general.file_type", LLAMA_FTYPE_GUESSED);
  if (type < LLAMA_FTYPE_GUESSED) header.Set("quantization", llama_ftype_name(static_cast<llama_ftype>(type)));
  return header;
}

void SetSpan(Napi::Object& object, uint64_t begin, uint64_t end) {
  object.Set("begin", static_cast<double>(begin));
  object.Set("end", static_cast<double>(end));
}

Napi::Object LayoutToJs(Napi::Env env, const GgufFile& file) {
  Napi::Object layout = ToJs(env, file);
  Napi::Array entries = Napi::Array::New(env, file.metadata.size());
  for (uint32_t i = 0; i < file.metadata.size(); ++i) {
    const GgufEntry& entry = file.metadata[i];
    Napi::Object object = Napi::Object::New(env);
    object.Set("key", entry.key);
    object.Set("type", entry.type);
    SetSpan(object, entry.begin, entry.end);
    object.Set("keyEnd", static_cast<double>(entry.begin + sizeof(uint64_t) + entry.key.size()));
    entries.Set(i, object);
  }
  Napi::Array descriptions = Napi::Array::New(env, file.tensors.size());
  for (uint32_t i = 0; i < file.tensors.size(); ++i) {
    const GgufTensor& tensor = file.tensors[i];
    const auto type = static_cast<ggml_type>(tensor.type_id);
    Napi::Object object = Napi::Object::New(env);
    SetSpan(object, tensor.begin, tensor.end);
    object.Set("type", tensor.type_id);
    object.Set("blockBytes", static_cast<double>(ggml_type_size(type)));
    object.Set("blockWeights", static_cast<double>(ggml_blck_size(type)));
    descriptions.Set(i, object);
  }
  layout.Set("entries", entries);
  layout.Set("descriptions", descriptions);
  return layout;
}

}  // namespace

Napi::Value InspectGguf(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    auto work = [path = ReadString(info[0], "path"), limits = ReadLimits(info[1])] {
      return ReadGguf(*OpenFile(path), limits);
    };
    return PromiseWorker<decltype(work), decltype(&InspectedToJs)>::Start(info.Env(), std::move(work), &InspectedToJs);
  });
}

Napi::Value InspectGgufPrefix(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    using Result = std::variant<GgufFile, PrefixTooShort>;
    const auto view = ReadView(info[0], "bytes");
    const std::string_view bytes(reinterpret_cast<const char*>(view.data()), view.size());
    const double size = ReadNumber(info[1], "fileSize");
    if (!(size >= static_cast<double>(bytes.size()) && size < 9e15)) {
      throw Error(ErrorCode::kInvalidOption, "fileSize is out of range.", "This is checked in lib/; please report it.");
    }
    auto work = [bytes, size = static_cast<uint64_t>(size), limits = ReadLimits(info[2])]() -> Result {
      try {
        return ReadGguf(*OpenPrefix(bytes, size), limits);
      } catch (const PrefixTooShort& missing) {
        return missing;
      }
    };
    // Keeps the memory until the work is done.
    auto to_js = [kept = Napi::Persistent(info[0].As<Napi::Object>())](Napi::Env env,
                                                                       const Result& result) -> Napi::Value {
      if (const auto* missing = std::get_if<PrefixTooShort>(&result))
        return Napi::Number::New(env, static_cast<double>(missing->needed));
      return InspectedToJs(env, std::get<GgufFile>(result));
    };
    return PromiseWorker<decltype(work), decltype(to_js)>::Start(info.Env(), std::move(work), std::move(to_js));
  });
}

Napi::Value ReadGgufLayout(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    auto work = [path = ReadString(info[0], "path")] { return ReadGguf(*OpenFile(path)); };
    return PromiseWorker<decltype(work), decltype(&LayoutToJs)>::Start(info.Env(), std::move(work), &LayoutToJs);
  });
}

Napi::Value ListModelFiles(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    auto work = [path = ReadString(info[0], "path")] { return PartPaths(path, ReadGguf(*OpenFile(path))); };
    auto to_js = [](Napi::Env env, const std::vector<std::string>& files) -> Napi::Value {
      Napi::Array array = Napi::Array::New(env, files.size());
      for (uint32_t i = 0; i < files.size(); ++i) array.Set(i, files[i]);
      return array;
    };
    return PromiseWorker<decltype(work), decltype(to_js)>::Start(info.Env(), std::move(work), std::move(to_js));
  });
}

}  // namespace coldstart
