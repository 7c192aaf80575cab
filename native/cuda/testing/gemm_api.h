// What the check and the bench of GEMM share: our functions and, where one is given, the toolkit's cuBLAS; memory;
// random matrices.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "cublas_v2.h"

namespace coldstart::cuda {

inline void Need(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(2);
}
#define COLDSTART_NEED(call) ::coldstart::cuda::Need(call, #call)

// The entry points, of one library or the other.
struct Blas {
  decltype(&cublasCreate) create;
  decltype(&cublasDestroy) destroy;
  decltype(&cublasSetStream) set_stream;
  decltype(&cublasSetWorkspace) set_workspace;
  decltype(&cublasSetMathMode) set_math_mode;
  decltype(&cublasSgemm) sgemm;
  decltype(&cublasSgemmStridedBatched) sgemm_strided;
  decltype(&cublasSgemmBatched) sgemm_pointers;
  decltype(&cublasGemmEx) gemm;
  decltype(&cublasGemmStridedBatchedEx) gemm_strided;
  decltype(&cublasGemmBatchedEx) gemm_pointers;
  decltype(&cublasStrsmBatched) solve;
  bool present = false;
};

Blas OurBlas();
Blas LoadBlas(const std::string& path);  // not present when it cannot be loaded

// A handle as ggml-cuda makes them: TF32 allowed, a workspace of 32 MiB (4 MiB before Hopper).
class Handle {
 public:
  Handle(const Blas& blas, cudaStream_t stream);
  ~Handle();
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  cublasHandle_t get() const { return handle_; }
  void* workspace() const { return workspace_; }
  size_t workspace_bytes() const { return bytes_; }

 private:
  const Blas& blas_;
  cublasHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  size_t bytes_ = 0;
};

// Memory of the device, released with it.
class DeviceBytes {
 public:
  explicit DeviceBytes(size_t bytes) : size_(bytes) { COLDSTART_NEED(cudaMalloc(&data_, bytes)); }
  ~DeviceBytes() { cudaFree(data_); }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;
  char* data() const { return static_cast<char*>(data_); }
  size_t size() const { return size_; }

 private:
  void* data_ = nullptr;
  size_t size_;
};

struct Options {
  std::string cublas;
  std::string json;
  std::string filter;
  std::string kernel;  // only plans whose name contains this
  bool quick = false;
  bool tune = false;
  uint64_t seed = 1;
};

// Fills with elements whose values are multiples of 2^-7 between -1 and 1, exact in all types.
void FillRandom(void* data, cudaDataType type, size_t count, uint64_t seed, cudaStream_t stream);
// Values of F32 with all their bits.
void FillRandomFloats(float* data, size_t count, uint64_t seed, cudaStream_t stream);

// What is being done now. A watch ends the program, and says this, when nothing new is told for 20 seconds: a kernel
// that waits for ever must not hold the GPU for ever.
void Progress(const std::string& what);

int RunCheck(const Options& options);
int RunBench(const Options& options);

}  // namespace coldstart::cuda
