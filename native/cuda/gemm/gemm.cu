#include "cuda/gemm/gemm.h"

#include "cuda/device/platform.cuh"
#include "cuda/gemm/choose_kernel.h"

namespace coldstart::cuda {

cudaError_t DescribeDevice(GemmDevice* device) {
  int id = 0;
  int major = 0;
  int minor = 0;
  cudaError_t error = cudaGetDevice(&id);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, id);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, id);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&device->multiprocessors, cudaDevAttrMultiProcessorCount, id);
  }
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&device->shared_bytes_per_block, cudaDevAttrMaxSharedMemoryPerBlockOptin, id);
  }
  device->compute_capability = 10 * major + minor;
  return error;
}

cudaError_t RunGemm(const GemmProblem& problem, const GemmDevice& device, void* workspace, cudaStream_t stream) {
  if (problem.k == 0 || problem.alpha == 0) {
    // Only beta * C is left, and neither A nor B is read.
    GemmProblem scaled = problem;
    scaled.k = 0;
    scaled.alpha = 0;
    return problem.m == 0 || problem.n == 0 || problem.batch == 0 ? cudaSuccess : RunSimtGemm(scaled, stream);
  }
  return RunGemm(problem, ChooseKernel(problem, device), device, workspace, stream);
}

cudaError_t RunGemm(const GemmProblem& problem, const GemmPlan& plan, const GemmDevice& device, void* workspace,
                    cudaStream_t stream) {
  (void)device;
  (void)workspace;
  switch (plan.kind) {
    case GemmKind::kNothing: return cudaSuccess;
    case GemmKind::kSimt: return RunSimtGemm(problem, stream);
    default: return cudaErrorNotSupported;
  }
}

}  // namespace coldstart::cuda
