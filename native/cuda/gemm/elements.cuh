// Elements of matrices as F32 and back.
#pragma once

#include "cuda/device/platform.cuh"
#include "cuda/gemm/problem.h"

namespace coldstart::cuda {

__device__ inline float ToFloat(float value) { return value; }
__device__ inline float ToFloat(__half value) { return __half2float(value); }
__device__ inline float ToFloat(__nv_bfloat16 value) { return __bfloat162float(value); }

template <typename T>
__device__ T FromFloat(float value);
template <>
__device__ inline float FromFloat<float>(float value) {
  return value;
}
template <>
__device__ inline __half FromFloat<__half>(float value) {
  return __float2half_rn(value);
}
template <>
__device__ inline __nv_bfloat16 FromFloat<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

// Where the matrix of a member of the batch begins.
__device__ inline const void* MatrixOf(const Matrices& matrices, int member, int bytes_of_element) {
  if (matrices.pointers != nullptr) return matrices.pointers[member];
  return static_cast<const char*>(matrices.base) + member * matrices.stride * bytes_of_element;
}

// Writes alpha * sum + beta * what is there, which is not read where beta is 0, rounded once.
template <typename Out>
__device__ inline void StoreResult(Out* to, float sum, float alpha, float beta) {
  float result = alpha * sum;
  if (beta != 0) result = fmaf(beta, ToFloat(*to), result);
  *to = FromFloat<Out>(result);
}

}  // namespace coldstart::cuda
