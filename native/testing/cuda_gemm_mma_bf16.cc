// Matrix multiplication by warps' tensor cores (bf16), emulated; cuda_gemm.cc calls it.
#include "cuda/gemm/mma_gemm_bf16.cu"  // NOLINT(build/include)
