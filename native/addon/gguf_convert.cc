#include "addon/gguf_convert.h"

#include <type_traits>

namespace coldstart {

namespace {

constexpr uint64_t kMaxSafeInteger = (uint64_t{1} << 53) - 1;

// Numbers that a double holds exactly become numbers, larger ones bigints.
template <typename Integer>
Napi::Value IntegerToJs(Napi::Env env, Integer value) {
  const uint64_t magnitude = value < 0 ? uint64_t{0} - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  if (magnitude <= kMaxSafeInteger) return Napi::Number::New(env, static_cast<double>(value));
  return Napi::BigInt::New(env, value);
}

template <typename Variant>
Napi::Value ValueToJs(Napi::Env env, const Variant& value) {
  return std::visit(
      [env](const auto& held) -> Napi::Value {
        using T = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<T, bool>) {
          return Napi::Boolean::New(env, held);
        } else if constexpr (std::is_same_v<T, double>) {
          return Napi::Number::New(env, held);
        } else if constexpr (std::is_same_v<T, std::string>) {
          return Napi::String::New(env, held);
        } else if constexpr (std::is_same_v<T, GgufArray>) {
          Napi::Object array = Napi::Object::New(env);
          array.Set("elementType", held.element_type);
          array.Set("length", static_cast<double>(held.length));
          Napi::Array values = Napi::Array::New(env, held.elements.size());
          for (uint32_t i = 0; i < held.elements.size(); ++i) values.Set(i, ValueToJs(env, held.elements[i]));
          array.Set("values", values);
          return array;
        } else {
          return IntegerToJs(env, held);
        }
      },
      value);
}

}  // namespace

Napi::Object ToJs(Napi::Env env, const GgufFile& file) {
  Napi::Object metadata = Napi::Object::New(env);
  for (const GgufEntry& entry : file.metadata) {
    // defineProperty, so that a key like __proto__ is a key.
    metadata.DefineProperty(Napi::PropertyDescriptor::Value(Napi::String::New(env, entry.key),
                                                            ValueToJs(env, entry.value), napi_default_jsproperty));
  }
  Napi::Array tensors = Napi::Array::New(env, file.tensors.size());
  for (uint32_t i = 0; i < file.tensors.size(); ++i) {
    const GgufTensor& tensor = file.tensors[i];
    Napi::Object object = Napi::Object::New(env);
    Napi::Array shape = Napi::Array::New(env, tensor.shape.size());
    for (uint32_t d = 0; d < tensor.shape.size(); ++d) shape.Set(d, static_cast<double>(tensor.shape[d]));
    object.Set("name", tensor.name);
    object.Set("type", tensor.type);
    object.Set("shape", shape);
    object.Set("offset", static_cast<double>(tensor.offset));
    object.Set("bytes", static_cast<double>(tensor.bytes));
    tensors.Set(i, object);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("version", file.version);
  result.Set("metadata", metadata);
  result.Set("tensors", tensors);
  result.Set("alignment", static_cast<double>(file.alignment));
  result.Set("dataOffset", static_cast<double>(file.data_offset));
  result.Set("fileSize", static_cast<double>(file.file_size));
  result.Set("parameters", static_cast<double>(file.Parameters()));
  result.Set("weightBytes", static_cast<double>(file.TensorBytes()));
  return result;
}

}  // namespace coldstart
