#include "weights/rows.h"

#include <cstring>

#ifdef COLDSTART_WIDE_QUANTIZATION
#include "weights/kernels.h"
#endif

namespace coldstart {

namespace {

#ifdef COLDSTART_WIDE_QUANTIZATION
const Kernels* KernelsOf(Instructions instructions) {
  switch (instructions) {
    case Instructions::kAny: return nullptr;
    case Instructions::kAvx2: return &kAvx2Kernels;
    case Instructions::kAvx512: return &kAvx512Kernels;
  }
  return nullptr;
}
#endif

// Whether a block can hold such values, whose scale is F16 or a small number of them. Mostly an infinite scale tells;
// of values whose third powers are infinite ggml's code finds no scale, and writes zeros without a word.
bool FitBlocks(ggml_type type, const float* values, int64_t count) {
  if (!ggml_is_quantized(type) || type == GGML_TYPE_MXFP4) return true;  // its scales are powers of two, of any size
  constexpr int32_t kMost = 0x4f800000;                                  // the bits of 2^32: no type comes near
  int32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    int32_t bits = 0;
    std::memcpy(&bits, values + i, sizeof(bits));
    bits &= 0x7fffffff;
    largest = bits > largest ? bits : largest;
  }
  return largest < kMost;
}

}  // namespace

std::vector<Instructions> AvailableInstructions() {
  std::vector<Instructions> available{Instructions::kAny};
#ifdef COLDSTART_WIDE_QUANTIZATION
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c")) available.push_back(Instructions::kAvx2);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("f16c")) {
    available.push_back(Instructions::kAvx512);
  }
#endif
  return available;
}

Instructions BestInstructions() {
  static const Instructions kBest = AvailableInstructions().back();
  return kBest;
}

bool CanWiden(ggml_type type) {
  return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16 ||
         (ggml_is_quantized(type) && ggml_get_type_traits(type)->to_float != nullptr);
}

bool WidenRow(ggml_type type, const void* source, float* target, int64_t count, Instructions instructions) {
#ifdef COLDSTART_WIDE_QUANTIZATION
  const Kernels* kernels = KernelsOf(instructions);
  if (type == GGML_TYPE_F16 && kernels != nullptr) {
    return kernels->widen_halves(static_cast<const uint16_t*>(source), target, static_cast<size_t>(count));
  }
#else
  static_cast<void>(instructions);
#endif
  const size_t bytes = ggml_row_size(type, count);
  if (!ggml_validate_row_data(type, source, bytes)) return false;
  switch (type) {
    case GGML_TYPE_F32: std::memcpy(target, source, bytes); break;
    case GGML_TYPE_F16: ggml_fp16_to_fp32_row(static_cast<const ggml_fp16_t*>(source), target, count); break;
    case GGML_TYPE_BF16: ggml_bf16_to_fp32_row(static_cast<const ggml_bf16_t*>(source), target, count); break;
    default: ggml_get_type_traits(type)->to_float(source, target, count); break;
  }
  return true;
}

bool QuantizeRows(ggml_type type, const float* values, int64_t rows, int64_t columns, const float* importance,
                  void* target, Instructions instructions) {
  if (!FitBlocks(type, values, rows * columns)) return false;
  const size_t bytes = static_cast<size_t>(rows) * ggml_row_size(type, columns);
  bool done = false;
#ifdef COLDSTART_WIDE_QUANTIZATION
  const Kernels* kernels = KernelsOf(instructions);
  const QuantizeKernel quantize = kernels == nullptr ? nullptr : kernels->quantize(type, importance != nullptr);
  if (quantize != nullptr) {
    quantize(values, static_cast<size_t>(rows), static_cast<size_t>(columns), importance, target);
    done = true;
  }
#else
  static_cast<void>(instructions);
#endif
  if (!done) ggml_quantize_chunk(type, values, target, 0, rows, columns, importance);
  return ggml_validate_row_data(type, target, bytes);
}

}  // namespace coldstart
