#include "addon/inspect.h"

#include "addon/errors.h"
#include "addon/gguf_convert.h"
#include "addon/options.h"
#include "llama.h"
#include "loading/preflight.h"

namespace coldstart {

Napi::Value InspectGguf(const Napi::CallbackInfo& info) {
  return AtEdge(info.Env(), [&]() -> Napi::Value {
    auto work = [path = ReadString(info[0], "path"), limit = ReadNumber(info[1], "arrayLimit")] {
      const GgufLimits limits{.array_elements = limit < 9e15 ? static_cast<uint64_t>(limit) : UINT64_MAX};
      return ReadGguf(*OpenFile(path), limits);
    };
    auto to_js = [](Napi::Env env, const GgufFile& file) -> Napi::Value {
      Napi::Object header = ToJs(env, file);
      const uint64_t type = file.Unsigned("general.file_type", LLAMA_FTYPE_GUESSED);
      if (type < LLAMA_FTYPE_GUESSED) header.Set("quantization", llama_ftype_name(static_cast<llama_ftype>(type)));
      return header;
    };
    return PromiseWorker<decltype(work), decltype(to_js)>::Start(info.Env(), std::move(work), std::move(to_js));
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
