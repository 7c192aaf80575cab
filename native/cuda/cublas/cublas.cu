// The entry points of cublas_v2.h: checks arguments as cuBLAS does, and hands the problem to gemm/.
#include <cstdlib>
#include <cstring>
#include <new>

#include "cublas_v2.h"
#include "cuda/gemm/gemm.h"

using coldstart::cuda::Element;
using coldstart::cuda::GemmDevice;
using coldstart::cuda::GemmProblem;
using coldstart::cuda::PlanCache;
using coldstart::cuda::TriangularProblem;

struct cublasContext {
  cudaStream_t stream = nullptr;
  void* workspace = nullptr;
  cublasMath_t math = CUBLAS_DEFAULT_MATH;
  GemmDevice device;
  PlanCache plans;
};

namespace {

cublasStatus_t StatusOf(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return CUBLAS_STATUS_SUCCESS;
    case cudaErrorNotSupported: return CUBLAS_STATUS_NOT_SUPPORTED;
    case cudaErrorInvalidValue: return CUBLAS_STATUS_INVALID_VALUE;
    case cudaErrorNoKernelImageForDevice: return CUBLAS_STATUS_ARCH_MISMATCH;
    default: return CUBLAS_STATUS_EXECUTION_FAILED;
  }
}

bool ElementOf(cudaDataType type, Element* element) {
  switch (type) {
    case CUDA_R_32F: *element = Element::kF32; return true;
    case CUDA_R_16F: *element = Element::kF16; return true;
    case CUDA_R_16BF: *element = Element::kBf16; return true;
    default: return false;
  }
}

// What all multiplications share. The matrices' places are the caller's.
struct Arguments {
  cublasHandle_t handle;
  cublasOperation_t op_a, op_b;
  int m, n, k;
  const void* alpha;
  cudaDataType type_a;
  int lda;
  cudaDataType type_b;
  int ldb;
  const void* beta;
  cudaDataType type_c;
  int ldc;
  int batch;
  cublasComputeType_t compute;
};

bool IsOperation(cublasOperation_t op) { return op == CUBLAS_OP_N || op == CUBLAS_OP_T || op == CUBLAS_OP_C; }

// NVIDIA's switch for all of its libraries: 0 keeps TF32 out, whatever a program asks for.
bool IsTf32Forbidden() {
  static const bool forbidden = [] {
    const char* value = std::getenv("NVIDIA_TF32_OVERRIDE");
    return value != nullptr && std::strcmp(value, "0") == 0;
  }();
  return forbidden;
}

// The problem, or why there is none. Its places are not yet set.
cublasStatus_t ProblemOf(const Arguments& args, GemmProblem* problem) {
  if (args.handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (!IsOperation(args.op_a) || !IsOperation(args.op_b)) return CUBLAS_STATUS_INVALID_VALUE;
  if (args.m < 0 || args.n < 0 || args.k < 0 || args.batch < 0) return CUBLAS_STATUS_INVALID_VALUE;
  if (args.alpha == nullptr || args.beta == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  const auto at_least = [](int ld, int rows) { return ld >= (rows > 1 ? rows : 1); };
  problem->transpose_a = args.op_a != CUBLAS_OP_N;
  problem->transpose_b = args.op_b != CUBLAS_OP_N;
  if (!at_least(args.lda, problem->transpose_a ? args.k : args.m)) return CUBLAS_STATUS_INVALID_VALUE;
  if (!at_least(args.ldb, problem->transpose_b ? args.n : args.k)) return CUBLAS_STATUS_INVALID_VALUE;
  if (!at_least(args.ldc, args.m)) return CUBLAS_STATUS_INVALID_VALUE;

  Element b;
  if (!ElementOf(args.type_a, &problem->type_ab) || !ElementOf(args.type_b, &b) ||
      !ElementOf(args.type_c, &problem->type_c)) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (problem->type_ab != b) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (problem->type_c != Element::kF32 && problem->type_c != b) return CUBLAS_STATUS_NOT_SUPPORTED;

  bool tf32 = args.handle->math == CUBLAS_TF32_TENSOR_OP_MATH || args.handle->math == CUBLAS_TENSOR_OP_MATH;
  switch (args.compute) {
    case CUBLAS_COMPUTE_16F:
    case CUBLAS_COMPUTE_16F_PEDANTIC:
      // The factors are of the type of the arithmetic; ours is at least as exact as what is asked for.
      if (b != Element::kF16 || problem->type_c != Element::kF16) return CUBLAS_STATUS_NOT_SUPPORTED;
      problem->alpha = __half2float(*static_cast<const __half*>(args.alpha));
      problem->beta = __half2float(*static_cast<const __half*>(args.beta));
      break;
    case CUBLAS_COMPUTE_32F_PEDANTIC: tf32 = false; [[fallthrough]];
    case CUBLAS_COMPUTE_32F:
    case CUBLAS_COMPUTE_32F_FAST_16F:
    case CUBLAS_COMPUTE_32F_FAST_16BF:
    case CUBLAS_COMPUTE_32F_FAST_TF32:
      // What may be rounded to 16 bits may be rounded to TF32.
      if (args.compute != CUBLAS_COMPUTE_32F && args.compute != CUBLAS_COMPUTE_32F_PEDANTIC) tf32 = true;
      problem->alpha = *static_cast<const float*>(args.alpha);
      problem->beta = *static_cast<const float*>(args.beta);
      break;
    default: return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  problem->m = args.m;
  problem->n = args.n;
  problem->k = args.k;
  problem->batch = args.batch;
  problem->tf32 = tf32 && problem->type_ab == Element::kF32 && !IsTf32Forbidden();
  problem->a.ld = args.lda;
  problem->b.ld = args.ldb;
  problem->c.ld = args.ldc;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t Run(cublasHandle_t handle, const GemmProblem& problem) {
  return StatusOf(RunGemm(problem, handle->device, &handle->plans, handle->workspace, handle->stream));
}

cublasStatus_t RunStrided(const Arguments& args, const void* a, long long stride_a, const void* b, long long stride_b,
                          void* c, long long stride_c) {
  GemmProblem problem;
  const cublasStatus_t status = ProblemOf(args, &problem);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  problem.a.base = a;
  problem.a.stride = stride_a;
  problem.b.base = b;
  problem.b.stride = stride_b;
  problem.c.base = c;
  problem.c.stride = stride_c;
  return Run(args.handle, problem);
}

cublasStatus_t RunPointers(const Arguments& args, const void* const a[], const void* const b[], void* const c[]) {
  GemmProblem problem;
  const cublasStatus_t status = ProblemOf(args, &problem);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  problem.a.pointers = a;
  problem.b.pointers = b;
  problem.c.pointers = const_cast<const void* const*>(c);
  return Run(args.handle, problem);
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate(cublasHandle_t* handle) {
  if (handle == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  auto* context = new (std::nothrow) cublasContext;
  if (context == nullptr) return CUBLAS_STATUS_ALLOC_FAILED;
  if (DescribeDevice(&context->device) != cudaSuccess) {
    delete context;
    return CUBLAS_STATUS_NOT_INITIALIZED;
  }
  *handle = context;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

// As in cuBLAS, a new stream takes the workspace away; there is no other, so what needs one takes another way.
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  handle->stream = stream;
  handle->workspace = nullptr;
  handle->device.workspace_bytes = 0;
  handle->plans.Clear();
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void* workspace, size_t bytes) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (workspace == nullptr && bytes != 0) return CUBLAS_STATUS_INVALID_VALUE;
  if (reinterpret_cast<size_t>(workspace) % 256 != 0) return CUBLAS_STATUS_INVALID_VALUE;
  handle->workspace = workspace;
  handle->device.workspace_bytes = bytes;
  handle->plans.Clear();
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (mode < CUBLAS_DEFAULT_MATH || mode > CUBLAS_TF32_TENSOR_OP_MATH) return CUBLAS_STATUS_INVALID_VALUE;
  handle->math = mode;
  return CUBLAS_STATUS_SUCCESS;
}

const char* cublasGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "success";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "the library was not initialized";
    case CUBLAS_STATUS_ALLOC_FAILED: return "the resource allocation failed";
    case CUBLAS_STATUS_INVALID_VALUE: return "an invalid value was used as an argument";
    case CUBLAS_STATUS_ARCH_MISMATCH: return "an absent device architectural feature is required";
    case CUBLAS_STATUS_MAPPING_ERROR: return "an access to GPU memory space failed";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "the function failed to launch on the GPU";
    case CUBLAS_STATUS_INTERNAL_ERROR: return "an internal operation failed";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "the functionality is not supported";
    case CUBLAS_STATUS_LICENSE_ERROR: return "the functionality requested requires some license";
  }
  return "unknown status";
}

cublasStatus_t cublasSgemm(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                           const float* alpha, const float* a, int lda, const float* b, int ldb, const float* beta,
                           float* c, int ldc) {
  return RunStrided({handle, op_a, op_b, m, n, k, alpha, CUDA_R_32F, lda, CUDA_R_32F, ldb, beta, CUDA_R_32F, ldc, 1,
                     CUBLAS_COMPUTE_32F},
                    a, 0, b, 0, c, 0);
}

cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m,
                                         int n, int k, const float* alpha, const float* a, int lda, long long stride_a,
                                         const float* b, int ldb, long long stride_b, const float* beta, float* c,
                                         int ldc, long long stride_c, int batch_count) {
  return RunStrided({handle, op_a, op_b, m, n, k, alpha, CUDA_R_32F, lda, CUDA_R_32F, ldb, beta, CUDA_R_32F, ldc,
                     batch_count, CUBLAS_COMPUTE_32F},
                    a, stride_a, b, stride_b, c, stride_c);
}

cublasStatus_t cublasSgemmBatched(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n,
                                  int k, const float* alpha, const float* const a[], int lda, const float* const b[],
                                  int ldb, const float* beta, float* const c[], int ldc, int batch_count) {
  return RunPointers({handle, op_a, op_b, m, n, k, alpha, CUDA_R_32F, lda, CUDA_R_32F, ldb, beta, CUDA_R_32F, ldc,
                      batch_count, CUBLAS_COMPUTE_32F},
                     reinterpret_cast<const void* const*>(a), reinterpret_cast<const void* const*>(b),
                     reinterpret_cast<void* const*>(c));
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                            const void* alpha, const void* a, cudaDataType type_a, int lda, const void* b,
                            cudaDataType type_b, int ldb, const void* beta, void* c, cudaDataType type_c, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t) {
  return RunStrided({handle, op_a, op_b, m, n, k, alpha, type_a, lda, type_b, ldb, beta, type_c, ldc, 1, compute}, a, 0,
                    b, 0, c, 0);
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m,
                                          int n, int k, const void* alpha, const void* a, cudaDataType type_a, int lda,
                                          long long stride_a, const void* b, cudaDataType type_b, int ldb,
                                          long long stride_b, const void* beta, void* c, cudaDataType type_c, int ldc,
                                          long long stride_c, int batch_count, cublasComputeType_t compute,
                                          cublasGemmAlgo_t) {
  return RunStrided(
      {handle, op_a, op_b, m, n, k, alpha, type_a, lda, type_b, ldb, beta, type_c, ldc, batch_count, compute}, a,
      stride_a, b, stride_b, c, stride_c);
}

cublasStatus_t cublasGemmBatchedEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n,
                                   int k, const void* alpha, const void* const a[], cudaDataType type_a, int lda,
                                   const void* const b[], cudaDataType type_b, int ldb, const void* beta,
                                   void* const c[], cudaDataType type_c, int ldc, int batch_count,
                                   cublasComputeType_t compute, cublasGemmAlgo_t) {
  return RunPointers(
      {handle, op_a, op_b, m, n, k, alpha, type_a, lda, type_b, ldb, beta, type_c, ldc, batch_count, compute}, a, b, c);
}

cublasStatus_t cublasStrsmBatched(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t fill,
                                  cublasOperation_t op_a, cublasDiagType_t diagonal, int m, int n, const float* alpha,
                                  const float* const a[], int lda, float* const b[], int ldb, int batch_count) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if ((side != CUBLAS_SIDE_LEFT && side != CUBLAS_SIDE_RIGHT) || !IsOperation(op_a) ||
      (fill != CUBLAS_FILL_MODE_LOWER && fill != CUBLAS_FILL_MODE_UPPER)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const int order = side == CUBLAS_SIDE_LEFT ? m : n;
  if (m < 0 || n < 0 || batch_count < 0 || alpha == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  if (lda < (order > 1 ? order : 1) || ldb < (m > 1 ? m : 1)) return CUBLAS_STATUS_INVALID_VALUE;
  TriangularProblem problem;
  problem.a_on_right = side == CUBLAS_SIDE_RIGHT;
  problem.upper = fill == CUBLAS_FILL_MODE_UPPER;
  problem.transpose = op_a != CUBLAS_OP_N;
  problem.unit_diagonal = diagonal == CUBLAS_DIAG_UNIT;
  problem.m = m;
  problem.n = n;
  problem.batch = batch_count;
  problem.alpha = *alpha;
  problem.a.pointers = reinterpret_cast<const void* const*>(a);
  problem.a.ld = lda;
  problem.b.pointers = reinterpret_cast<const void* const*>(b);
  problem.b.ld = ldb;
  return StatusOf(RunTriangularSolve(problem, handle->stream));
}

}  // extern "C"
