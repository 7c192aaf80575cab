#include <cstdlib>
#include <cstring>

#include "cuda/device/platform.cuh"
#include "cuda/gemm/choose_kernel.h"
#include "cuda/gemm/gemm.h"

namespace coldstart::cuda {

namespace {

// Never started. What the runtime says of it tells which of the architectures this file was compiled for runs here:
// sm_90 and sm_90a differ only in the threads it allows.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr int kThreadsOfProbe = 64;
#else
constexpr int kThreadsOfProbe = 32;
#endif
__global__ void __launch_bounds__(kThreadsOfProbe) Probe() {}

}  // namespace

cudaError_t DescribeDevice(GemmDevice* device) {
  int id = 0;
  int major = 0;
  int minor = 0;
  cudaFuncAttributes probe{};
  cudaError_t error = cudaGetDevice(&id);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, id);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, id);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&device->multiprocessors, cudaDevAttrMultiProcessorCount, id);
  }
  if (error == cudaSuccess) error = cudaFuncGetAttributes(&probe, Probe);
  device->compute_capability = 10 * major + minor;
  device->compiled_for = probe.ptxVersion;
  // A way out, should these kernels ever be the trouble.
  const char* wgmma = std::getenv("COLDSTART_CUDA_WGMMA");
  const bool off = wgmma != nullptr && std::strcmp(wgmma, "0") == 0;
  device->has_wgmma = device->compute_capability == 90 && probe.maxThreadsPerBlock == 64 && !off;
  if (error == cudaSuccess && device->has_wgmma) error = CountWgmmaClusters(device);
  return error;
}

cudaError_t RunGemm(const GemmProblem& problem, const GemmDevice& device, PlanCache* plans, void* workspace,
                    cudaStream_t stream) {
  if (problem.k == 0 || problem.alpha == 0) {
    // Only beta * C is left, and neither A nor B is read.
    GemmProblem scaled = problem;
    scaled.k = 0;
    scaled.alpha = 0;
    return problem.m == 0 || problem.n == 0 || problem.batch == 0 ? cudaSuccess : RunSimtGemm(scaled, stream);
  }
  const GemmPlan plan = plans->Choose(problem, device);
  const cudaError_t error = RunGemm(problem, plan, device, workspace, stream);
  if (plan.kind != GemmKind::kWgmma || error != cudaErrorNotSupported) return error;
  // No maps could be made of these matrices: without them.
  GemmDevice without = device;
  without.has_wgmma = false;
  return RunGemm(problem, ChooseKernel(problem, without), without, workspace, stream);
}

cudaError_t RunGemm(const GemmProblem& problem, const GemmPlan& plan, const GemmDevice& device, void* workspace,
                    cudaStream_t stream) {
  switch (plan.kind) {
    case GemmKind::kNothing: return cudaSuccess;
    case GemmKind::kSimt: return RunSimtGemm(problem, stream);
    case GemmKind::kWgmma: return RunWgmmaGemm(problem, plan, device, stream);
    case GemmKind::kMma: break;
  }
  switch (problem.type_ab) {
    case Element::kF16: return RunMmaGemmF16(problem, plan, workspace, stream);
    case Element::kBf16: return RunMmaGemmBf16(problem, plan, workspace, stream);
    case Element::kF32: return RunMmaGemmF32(problem, plan, workspace, stream);
  }
  return cudaErrorNotSupported;
}

}  // namespace coldstart::cuda
