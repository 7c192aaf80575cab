#include <cuda_runtime_api.h>

#include "cuda/device/tensor_map.h"

namespace coldstart::cuda {

namespace {

// The driver's function, found at run time so that nothing links the driver.
decltype(&cuTensorMapEncodeTiled) Encoder() {
  static const auto encoder = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found;
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
    const bool usable = error == cudaSuccess && found == cudaDriverEntryPointSuccess;
    return usable ? reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function) : nullptr;
  }();
  return encoder;
}

}  // namespace

bool MakeTensorMap(const TensorShape& shape, TensorMap* map) {
  const auto encoder = Encoder();
  if (encoder == nullptr) return false;
  CUtensorMapDataType type = CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
  if (shape.element == TensorElement::kF16) type = CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  if (shape.element == TensorElement::kBf16) type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  const cuuint64_t extent[3] = {shape.extent[0], shape.extent[1], shape.extent[2]};
  const cuuint64_t stride[2] = {shape.stride_bytes[0], shape.stride_bytes[1]};
  const cuuint32_t box[3] = {shape.box[0], shape.box[1], shape.box[2]};
  const cuuint32_t every[3] = {1, 1, 1};
  return encoder(map, type, 3, const_cast<void*>(shape.base), extent, stride, box, every, CU_TENSOR_MAP_INTERLEAVE_NONE,
                 shape.swizzled ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE,
                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace coldstart::cuda
