// One multiplication on a GPU, compared with sums in F64.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cuda/gemm/problem.h"
#include "cuda/testing/gemm_api.h"

namespace coldstart::cuda {

enum class Batching { kNone, kStrided, kPointers };
enum class Values { kExact, kFloats, kNan, kInfinity };

struct GemmCase {
  bool transpose_a = true;
  bool transpose_b = false;
  int m = 1;
  int n = 1;
  int k = 1;
  cudaDataType type = CUDA_R_16F;
  cudaDataType type_c = CUDA_R_16F;
  cublasComputeType_t compute = CUBLAS_COMPUTE_16F;
  cublasMath_t math = CUBLAS_TF32_TENSOR_OP_MATH;
  bool sgemm = false;  // by the entry points for F32
  Batching batching = Batching::kNone;
  int batch = 1;
  int share_a = 1;           // with pointers: so many members have the same A
  bool broadcast_b = false;  // strided: a stride of 0
  bool interleaved =
      false;  // strided: columns of all members in turn, as heads of attention lie, so that strides are less than ld
  int pad_a = 0, pad_b = 0, pad_c = 0;     // elements between columns
  int skip_a = 0, skip_b = 0, skip_c = 0;  // elements before the first, so that places are not aligned
  float alpha = 1;
  float beta = 0;
  Values values = Values::kExact;

  std::string Name() const;
};

// The memory of a case: factors with NaN wherever no element is, C poisoned, and the sums.
class GemmFixture {
 public:
  GemmFixture(const GemmCase& c, uint64_t seed, cudaStream_t stream);

  // Poisons C (with beta, fills its elements), so that Run can be compared.
  void ResetC();
  cublasStatus_t Run(const Blas& blas, cublasHandle_t handle);
  GemmProblem Problem() const;  // for plans of the caller's

  // Why C is not what it should be, or nothing. `worst` is the largest error as a share of what is allowed.
  std::string Compare(double* worst);
  std::vector<unsigned char> BytesOfC() const;

 private:
  void ComputeSums();

  GemmCase case_;
  uint64_t seed_;
  cudaStream_t stream_;
  int rows_a_, columns_a_, rows_b_, columns_b_;
  int lda_, ldb_, ldc_;
  long long stride_a_, stride_b_, stride_c_;
  size_t elements_a_, elements_b_, elements_c_;
  std::unique_ptr<DeviceBytes> a_, b_, c_, c_before_, sums_, magnitudes_, verdict_, pointers_;
  char *first_a_, *first_b_, *first_c_;
};

}  // namespace coldstart::cuda
