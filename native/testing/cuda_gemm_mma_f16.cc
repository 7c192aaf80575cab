// Matrix multiplication by warps' tensor cores (f16), emulated; cuda_gemm.cc calls it.
#include "cuda/gemm/mma_gemm_f16.cu"  // NOLINT(build/include)
