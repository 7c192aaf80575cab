#include "testing/cuda_emulation_addon.h"

#include <stdexcept>
#include <utility>
#include <vector>

#include "emulation_threads.h"  // NOLINT(build/include_subdir)

namespace coldstart::cuda {
namespace {

std::vector<std::pair<const char*, AddonFunction>>& Registered() {
  static std::vector<std::pair<const char*, AddonFunction>> all;
  return all;
}

Napi::Value Call(const Napi::CallbackInfo& info) {
  const auto function = reinterpret_cast<AddonFunction>(info.Data());
  try {
    return function(info);
  } catch (const emulation::Failure& failure) {
    Napi::Error error = Napi::Error::New(info.Env(), failure.what());
    error.Set("fault", Napi::String::New(info.Env(), emulation::NameOf(failure.fault())));
    throw error;
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Napi::Error::New(info.Env(), error.what());
  }
}

// setSeed(seed): of the launches that follow
Napi::Value RunSetSeed(const Napi::CallbackInfo& info) {
  emulation::SetSeed(static_cast<uint64_t>(IntegerOf(info[0])));
  return info.Env().Undefined();
}
const Registration kSetSeed("setSeed", RunSetSeed);

}  // namespace

Registration::Registration(const char* name, AddonFunction function) { Registered().emplace_back(name, function); }

Bytes BytesOf(const Napi::Value& value) {
  if (value.IsTypedArray()) {
    const auto array = value.As<Napi::TypedArray>();
    return {static_cast<unsigned char*>(array.ArrayBuffer().Data()) + array.ByteOffset(), array.ByteLength()};
  }
  throw std::runtime_error("A typed array or a Buffer is expected.");
}

int64_t IntegerOf(const Napi::Value& value) {
  if (!value.IsNumber()) throw std::runtime_error("A number is expected.");
  return value.As<Napi::Number>().Int64Value();
}

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  for (const auto& [name, function] : Registered()) {
    exports.Set(name, Napi::Function::New(env, Call, name, reinterpret_cast<void*>(function)));
  }
  return exports;
}

}  // namespace coldstart::cuda

static Napi::Object InitEmulation(Napi::Env env, Napi::Object exports) { return coldstart::cuda::Init(env, exports); }
NODE_API_MODULE(coldstart_cuda_emulation, InitEmulation)
