#include "cuda/quantize/dispatch.cuh"
#include "cuda/quantize/quantize.h"

namespace coldstart::cuda {

cudaError_t Quantize(WeightType from, WeightType to, const void* source, void* target, int64_t values,
                     uint32_t* refusals, cudaStream_t stream) {
  if (!IsQuantized(to) || values % LayoutOf(to).values != 0) return cudaErrorInvalidValue;
  const int64_t blocks = values / LayoutOf(to).values;
  auto* bytes = static_cast<uint8_t*>(target);
  switch (from) {
    case WeightType::kF32: return LaunchQuantize<SourceF32>(to, source, bytes, blocks, refusals, stream);
    case WeightType::kF16: return LaunchQuantize<SourceF16>(to, source, bytes, blocks, refusals, stream);
    case WeightType::kBF16: return LaunchQuantize<SourceBf16>(to, source, bytes, blocks, refusals, stream);
    default: return cudaErrorInvalidValue;
  }
}

cudaError_t Dequantize(WeightType from, WeightType to, const void* source, void* target, int64_t values,
                       cudaStream_t stream) {
  if (!IsQuantized(from) || values % LayoutOf(from).values != 0) return cudaErrorInvalidValue;
  const int64_t blocks = values / LayoutOf(from).values;
  const auto* bytes = static_cast<const uint8_t*>(source);
  switch (to) {
    case WeightType::kF32: return LaunchDequantize<TargetF32>(from, bytes, target, blocks, stream);
    case WeightType::kF16: return LaunchDequantize<TargetF16>(from, bytes, target, blocks, stream);
    default: return cudaErrorInvalidValue;
  }
}

}  // namespace coldstart::cuda
