#include "cuda/gemm/mma_launch.cuh"

namespace coldstart::cuda {

cudaError_t RunMmaGemmF32(const GemmProblem& problem, const GemmPlan& plan, void* workspace, cudaStream_t stream) {
  return RunMmaOf<Element::kF32>(problem, plan, workspace, stream);
}

}  // namespace coldstart::cuda
