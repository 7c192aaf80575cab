// Matrix multiplication on the GPU.
#pragma once

#include "cuda/device/platform.cuh"
#include "cuda/gemm/choose_kernel.h"
#include "cuda/gemm/problem.h"

namespace coldstart::cuda {

// The facts about the current device. Slow: once for each handle.
cudaError_t DescribeDevice(GemmDevice* device);

// Starts the multiplication on a stream. It neither allocates nor waits, so that it may be captured into a graph.
cudaError_t RunGemm(const GemmProblem& problem, const GemmDevice& device, PlanCache* plans, void* workspace,
                    cudaStream_t stream);

// The same by a plan of the caller's, which has to suit the problem (see SuitsProblem in choose_kernel.h).
cudaError_t RunGemm(const GemmProblem& problem, const GemmPlan& plan, const GemmDevice& device, void* workspace,
                    cudaStream_t stream);

// X op(A) = alpha * B (or op(A) X = alpha * B) for triangular matrices A of each member of a batch; X overwrites B, of
// m x n elements.
struct TriangularProblem {
  bool a_on_right = false;
  bool upper = false;
  bool transpose = false;
  bool unit_diagonal = false;
  int m = 0;
  int n = 0;
  int batch = 0;
  float alpha = 1;
  Matrices a;
  Matrices b;  // overwritten
};

cudaError_t RunTriangularSolve(const TriangularProblem& problem, cudaStream_t stream);

// One for each kind of kernel, in files of their own so that they compile apart.
cudaError_t RunSimtGemm(const GemmProblem& problem, cudaStream_t stream);
cudaError_t RunMmaGemmF16(const GemmProblem& problem, const GemmPlan& plan, void* workspace, cudaStream_t stream);
cudaError_t RunMmaGemmBf16(const GemmProblem& problem, const GemmPlan& plan, void* workspace, cudaStream_t stream);
cudaError_t RunMmaGemmF32(const GemmProblem& problem, const GemmPlan& plan, void* workspace, cudaStream_t stream);
cudaError_t RunWgmmaGemm(const GemmProblem& problem, const GemmPlan& plan, const GemmDevice& device,
                         cudaStream_t stream);

// Sets device->clusters_of_2 and so on.
cudaError_t CountWgmmaClusters(GemmDevice* device);

}  // namespace coldstart::cuda
