// Checks and measures matrix multiplication on a GPU, next to the toolkit's cuBLAS where there is one.
//
//   gemm check [--quick] [--filter TEXT] [--seed N] [--cublas libcublas.so.13]
//   gemm bench [--quick] [--tune] [--filter TEXT] [--kernel TEXT] [--json FILE] [--cublas libcublas.so.13]
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <dlfcn.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <mutex>
#include <thread>

#include "cuda/testing/gemm_api.h"

#define COLDSTART_TEXT_OF(name) #name
#define COLDSTART_TEXT(name) COLDSTART_TEXT_OF(name)

namespace coldstart::cuda {

Blas OurBlas() {
  return Blas{&cublasCreate,
              &cublasDestroy,
              &cublasSetStream,
              &cublasSetWorkspace,
              &cublasSetMathMode,
              &cublasSgemm,
              &cublasSgemmStridedBatched,
              &cublasSgemmBatched,
              &cublasGemmEx,
              &cublasGemmStridedBatchedEx,
              &cublasGemmBatchedEx,
              &cublasStrsmBatched,
              true};
}

Blas LoadBlas(const std::string& path) {
  Blas blas{};
  if (path.empty()) return blas;
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    std::fprintf(stderr, "no cuBLAS: %s\n", dlerror());
    return blas;
  }
  bool all = true;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    if (function == nullptr) std::fprintf(stderr, "no %s in %s\n", name, path.c_str());
    all = all && function != nullptr;
  };
  find(blas.create, COLDSTART_TEXT(cublasCreate));
  find(blas.destroy, COLDSTART_TEXT(cublasDestroy));
  find(blas.set_stream, COLDSTART_TEXT(cublasSetStream));
  find(blas.set_workspace, COLDSTART_TEXT(cublasSetWorkspace));
  find(blas.set_math_mode, COLDSTART_TEXT(cublasSetMathMode));
  find(blas.sgemm, COLDSTART_TEXT(cublasSgemm));
  find(blas.sgemm_strided, COLDSTART_TEXT(cublasSgemmStridedBatched));
  find(blas.sgemm_pointers, COLDSTART_TEXT(cublasSgemmBatched));
  find(blas.gemm, COLDSTART_TEXT(cublasGemmEx));
  find(blas.gemm_strided, COLDSTART_TEXT(cublasGemmStridedBatchedEx));
  find(blas.gemm_pointers, COLDSTART_TEXT(cublasGemmBatchedEx));
  find(blas.solve, COLDSTART_TEXT(cublasStrsmBatched));
  blas.present = all;
  return blas;
}

Handle::Handle(const Blas& blas, cudaStream_t stream) : blas_(blas) {
  int device = 0;
  int major = 0;
  COLDSTART_NEED(cudaGetDevice(&device));
  COLDSTART_NEED(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  bytes_ = major >= 9 ? 32 << 20 : 4 << 20;
  if (blas.create(&handle_) != CUBLAS_STATUS_SUCCESS) {
    std::fprintf(stderr, "cublasCreate failed\n");
    std::exit(2);
  }
  blas.set_math_mode(handle_, CUBLAS_TF32_TENSOR_OP_MATH);
  blas.set_stream(handle_, stream);
  COLDSTART_NEED(cudaMalloc(&workspace_, bytes_));
  blas.set_workspace(handle_, workspace_, bytes_);
}

Handle::~Handle() {
  blas_.destroy(handle_);
  cudaFree(workspace_);
}

namespace {

std::mutex progress_mutex;
char progress[256];
int progress_count = 0;

void Watch() {
  int seen = -1;
  for (int idle = 0; idle < 20;) {
    std::this_thread::sleep_for(std::chrono::seconds(1));
    const std::lock_guard<std::mutex> lock(progress_mutex);
    idle = seen == progress_count ? idle + 1 : 0;
    seen = progress_count;
    if (idle == 20) std::printf("STUCK in %s\n", progress);
  }
  std::fflush(stdout);
  _exit(3);
}

__device__ uint32_t Hash(uint64_t value) {
  value = (value ^ value >> 33) * 0xff51afd7ed558ccdull;
  value = (value ^ value >> 33) * 0xc4ceb9fe1a85ec53ull;
  return static_cast<uint32_t>(value >> 32);
}

template <typename T>
__global__ void Fill(T* data, size_t count, uint64_t seed) {
  for (size_t i = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x; i < count;
       i += static_cast<size_t>(gridDim.x) * blockDim.x) {
    const float value = (static_cast<int>(Hash(seed * 0x9e3779b97f4a7c15ull + i) % 257) - 128) / 128.0f;
    if constexpr (sizeof(T) == 4) {
      data[i] = value;
    } else {
      data[i] = T(value);
    }
  }
}

__global__ void FillFloats(float* data, size_t count, uint64_t seed) {
  for (size_t i = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x; i < count;
       i += static_cast<size_t>(gridDim.x) * blockDim.x) {
    data[i] = (static_cast<int>(Hash(seed * 0x9e3779b97f4a7c15ull + i)) >> 7) / 16777216.0f;
  }
}

}  // namespace

void Progress(const std::string& what) {
  static std::thread watch(Watch);
  static const bool detached = (watch.detach(), true);
  (void)detached;
  const std::lock_guard<std::mutex> lock(progress_mutex);
  std::snprintf(progress, sizeof(progress), "%s", what.c_str());
  ++progress_count;
}

void FillRandom(void* data, cudaDataType type, size_t count, uint64_t seed, cudaStream_t stream) {
  if (type == CUDA_R_32F) Fill<<<1056, 256, 0, stream>>>(static_cast<float*>(data), count, seed);
  if (type == CUDA_R_16F) Fill<<<1056, 256, 0, stream>>>(static_cast<__half*>(data), count, seed);
  if (type == CUDA_R_16BF) Fill<<<1056, 256, 0, stream>>>(static_cast<__nv_bfloat16*>(data), count, seed);
  COLDSTART_NEED(cudaGetLastError());
}

void FillRandomFloats(float* data, size_t count, uint64_t seed, cudaStream_t stream) {
  FillFloats<<<1056, 256, 0, stream>>>(data, count, seed);
  COLDSTART_NEED(cudaGetLastError());
}

}  // namespace coldstart::cuda

int main(int argc, char** argv) {
  using coldstart::cuda::Options;
  Options options;
  const std::string command = argc > 1 ? argv[1] : "";
  for (int i = 2; i < argc; ++i) {
    const std::string name = argv[i];
    const auto value = [&]() -> std::string { return i + 1 < argc ? argv[++i] : ""; };
    if (name == "--quick") {
      options.quick = true;
    } else if (name == "--tune") {
      options.tune = true;
    } else if (name == "--filter") {
      options.filter = value();
    } else if (name == "--kernel") {
      options.kernel = value();
    } else if (name == "--json") {
      options.json = value();
    } else if (name == "--cublas") {
      options.cublas = value();
    } else if (name == "--seed") {
      options.seed = std::strtoull(value().c_str(), nullptr, 10);
    } else {
      std::fprintf(stderr, "unknown option %s\n", name.c_str());
      return 2;
    }
  }
  if (command == "check") return coldstart::cuda::RunCheck(options);
  if (command == "bench") return coldstart::cuda::RunBench(options);
  std::fprintf(stderr, "usage: gemm check|bench [options]\n");
  return 2;
}
