// Results on their way out, four at a time.
#pragma once

#include "cuda/gemm/elements.cuh"

namespace coldstart::cuda {

// Four results one below the other in a column of C, of which `rows` exist.
template <typename Out>
__device__ inline void StoreFour(Out* to, const float4& sums, int rows, float alpha, float beta) {
  const float values[4] = {sums.x, sums.y, sums.z, sums.w};
  if (rows >= 4 && reinterpret_cast<uintptr_t>(to) % (4 * sizeof(Out)) == 0) {
    struct alignas(4 * sizeof(Out)) Four {
      Out values[4];
    };
    Four four;
    if (beta != 0) four = *reinterpret_cast<const Four*>(to);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float result = alpha * values[i];
      if (beta != 0) result = fmaf(beta, ToFloat(four.values[i]), result);
      four.values[i] = FromFloat<Out>(result);
    }
    *reinterpret_cast<Four*>(to) = four;
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (i < rows) StoreResult(to + i, values[i], alpha, beta);
  }
}

template <Element kType>
__device__ inline void StoreFourAs(void* c, int64_t at, Element type, const float4& sums, int rows, float alpha,
                                   float beta) {
  if (kType == Element::kF32 || type == Element::kF32) {
    StoreFour(static_cast<float*>(c) + at, sums, rows, alpha, beta);
  } else if constexpr (kType == Element::kF16) {
    StoreFour(static_cast<__half*>(c) + at, sums, rows, alpha, beta);
  } else if constexpr (kType == Element::kBf16) {
    StoreFour(static_cast<__nv_bfloat16*>(c) + at, sums, rows, alpha, beta);
  }
}

}  // namespace coldstart::cuda
