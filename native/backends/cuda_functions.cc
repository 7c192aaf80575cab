#include "backends/cuda_functions.h"

#include <mutex>
#include <type_traits>
#include <unordered_map>

#include "backends/dynamic_library.h"

namespace coldstart {

namespace {

struct Loaded {
  std::mutex mutex;
  std::unordered_map<ggml_backend_reg_t, CudaFunctions> functions;  // for the life of the process, as plugins
};

Loaded& All() {
  static Loaded all;
  return all;
}

}  // namespace

const CudaFunctions* CudaFunctionsOf(ggml_backend_reg_t backend) {
  Loaded& all = All();
  const std::lock_guard lock(all.mutex);
  const auto found = all.functions.find(backend);
  return found == all.functions.end() ? nullptr : &found->second;
}

void TakeCudaFunctions(const std::string& path, ggml_backend_reg_t backend) {
  const DynamicLibrary library(path);  // ggml keeps it open
  auto* version = library.Find<decltype(coldstart_cuda_api_version)>("coldstart_cuda_api_version");
  if (version == nullptr || version() != COLDSTART_CUDA_API_VERSION) return;
  CudaFunctions functions{};
  bool whole = true;
  const auto find = [&](auto& function, const char* name) {
    function = library.Find<std::remove_pointer_t<std::remove_reference_t<decltype(function)>>>(name);
    whole = whole && function != nullptr;
  };
  find(functions.last_error, "coldstart_cuda_last_error");
  find(functions.device_of, "coldstart_cuda_device_of");
  find(functions.quantize_supports, "coldstart_cuda_quantize_supports");
  find(functions.quantize_create, "coldstart_cuda_quantize_create");
  find(functions.quantize_destroy, "coldstart_cuda_quantize_destroy");
  find(functions.quantize_acquire, "coldstart_cuda_quantize_acquire");
  find(functions.quantize_submit, "coldstart_cuda_quantize_submit");
  find(functions.quantize_collect, "coldstart_cuda_quantize_collect");
  find(functions.quantize_release, "coldstart_cuda_quantize_release");
  find(functions.quantize_measure, "coldstart_cuda_quantize_measure");
  if (!whole) return;
  Loaded& all = All();
  const std::lock_guard lock(all.mutex);
  all.functions.emplace(backend, functions);
}

}  // namespace coldstart
