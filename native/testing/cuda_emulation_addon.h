// coldstart_cuda_emulation.node: kernels that run on the CPU, opened to mocha. Never shipped.
//
// A file for each kernel registers the functions that tests call:
//
//   Napi::Value RunReduceSum(const Napi::CallbackInfo& info) { ... launch(...) ... }
//   const Registration kReduceSum("reduceSum", RunReduceSum);
//
// A Failure of the emulation becomes an Error whose `fault` says of which kind.
#pragma once

#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace coldstart::cuda {

using AddonFunction = Napi::Value (*)(const Napi::CallbackInfo&);

class Registration {
 public:
  Registration(const char* name, AddonFunction function);
};

// The bytes of a Buffer or a typed array, which the function may change.
struct Bytes {
  unsigned char* data;
  size_t size;
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
};
Bytes BytesOf(const Napi::Value& value);
int64_t IntegerOf(const Napi::Value& value);

}  // namespace coldstart::cuda
