// Matrix multiplication by warps' tensor cores (tf32), emulated; cuda_gemm.cc calls it.
#include "cuda/gemm/mma_gemm_tf32.cu"  // NOLINT(build/include)
