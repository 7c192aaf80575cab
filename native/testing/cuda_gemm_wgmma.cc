// Matrix multiplication by warpgroups' tensor cores, emulated; cuda_gemm.cc calls it.
#include "cuda/gemm/wgmma_gemm.cu"  // NOLINT(build/include)
