#include "addon/errors.h"

namespace coldstart {

void SetErrorClass(const Napi::CallbackInfo& info) {
  if (info.Length() < 1 || !info[0].IsFunction()) throw Napi::TypeError::New(info.Env(), "setErrorClass takes a class");
  info.Env().GetInstanceData<AddonData>()->error_class = Napi::Persistent(info[0].As<Napi::Function>());
}

Napi::Value ToJs(Napi::Env env, const Error& error) {
  const auto* data = env.GetInstanceData<AddonData>();
  if (data == nullptr || data->error_class.IsEmpty()) {
    Napi::Error plain = Napi::Error::New(env, error.message() + " " + error.remedy());
    plain.Value().Set("code", ToString(error.code()));
    return plain.Value();
  }
  Napi::Object details = Napi::Object::New(env);
  for (const auto& [name, value] : error.details()) {
    if (const auto* number = std::get_if<double>(&value)) {
      details.Set(name, *number);
    } else {
      details.Set(name, std::get<std::string>(value));
    }
  }
  Napi::Object options = Napi::Object::New(env);
  options.Set("details", details);
  options.Set("remedy", error.remedy());
  return data->error_class.New(
      {Napi::String::New(env, ToString(error.code())), Napi::String::New(env, error.message()), options});
}

}  // namespace coldstart
