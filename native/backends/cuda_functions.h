// What our own CUDA plugin offers besides ggml's backend: cuda/plugin_api.h. Other CUDA plugins do not have it.
#pragma once

#include <string>

#include "cuda/plugin_api.h"
#include "ggml-backend.h"

namespace coldstart {

struct CudaFunctions {
  decltype(&coldstart_cuda_last_error) last_error;
  decltype(&coldstart_cuda_device_of) device_of;
  decltype(&coldstart_cuda_quantize_supports) quantize_supports;
  decltype(&coldstart_cuda_quantize_create) quantize_create;
  decltype(&coldstart_cuda_quantize_destroy) quantize_destroy;
  decltype(&coldstart_cuda_quantize_acquire) quantize_acquire;
  decltype(&coldstart_cuda_quantize_submit) quantize_submit;
  decltype(&coldstart_cuda_quantize_collect) quantize_collect;
  decltype(&coldstart_cuda_quantize_release) quantize_release;
  decltype(&coldstart_cuda_quantize_measure) quantize_measure;
};

// Those of the plugin that a backend came with; nullptr: it has none, or none of this version.
const CudaFunctions* CudaFunctionsOf(ggml_backend_reg_t backend);

// Of a plugin that has been loaded from there, and stays so. Nothing happens if it has none.
void TakeCudaFunctions(const std::string& path, ggml_backend_reg_t backend);

}  // namespace coldstart
