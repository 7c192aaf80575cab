// All that is compiled for an instruction set.
#pragma once

#include <immintrin.h>

#include "weights/kernels.h"
#include "weights/lanes/small_blocks.h"
#include "weights/lanes/super_blocks.h"

namespace {  // NOLINT(build/namespaces_headers): included once by each file, see lanes.h

// nullptr: there is none.
inline coldstart::QuantizeKernel KernelFor(int type, bool has_importance) {
  switch (type) {
    case GGML_TYPE_Q2_K: return QuantizeSuperBlocks<256, block_q2_K, QuantizeQ2K>;
    case GGML_TYPE_Q3_K: return QuantizeSuperBlocks<256, block_q3_K, QuantizeQ3K>;
    case GGML_TYPE_Q4_K: return QuantizeSuperBlocks<256, block_q4_K, QuantizeK45<4>>;
    case GGML_TYPE_Q5_K: return QuantizeSuperBlocks<256, block_q5_K, QuantizeK45<5>>;
    case GGML_TYPE_Q6_K: return QuantizeSuperBlocks<256, block_q6_K, QuantizeQ6K>;
    case GGML_TYPE_Q8_0: return QuantizeBlocks<block_q8_0, QuantizeQ80>;  // takes no notice of importance
    default: break;
  }
  if (has_importance) return nullptr;
  switch (type) {
    case GGML_TYPE_Q4_0: return QuantizeBlocks<block_q4_0, QuantizeAround0<4, block_q4_0>>;
    case GGML_TYPE_Q4_1: return QuantizeBlocks<block_q4_1, QuantizeFromMin<4, block_q4_1>>;
    case GGML_TYPE_Q5_0: return QuantizeBlocks<block_q5_0, QuantizeAround0<5, block_q5_0>>;
    case GGML_TYPE_Q5_1: return QuantizeBlocks<block_q5_1, QuantizeFromMin<5, block_q5_1>>;
    default: return nullptr;
  }
}

// F16 of any kind but NaN and infinity, of which there are some if the result is false.
inline bool WidenHalves(const uint16_t* source, float* target, size_t count) {
  int32_t not_finite = 0;
  for (size_t i = 0; i < count; ++i) not_finite |= (source[i] & 0x7c00) == 0x7c00 ? 1 : 0;
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    _mm256_storeu_ps(target + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source + i))));
  }
  for (; i < count; ++i) target[i] = ggml_fp16_to_fp32(source[i]);
  return not_finite == 0;
}

}  // namespace
