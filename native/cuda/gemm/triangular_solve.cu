#include "cuda/device/launch.cuh"
#include "cuda/gemm/gemm.h"
#include "cuda/gemm/triangular_solve.cuh"

namespace coldstart::cuda {

cudaError_t RunTriangularSolve(const TriangularProblem& p, cudaStream_t stream) {
  if (p.m == 0 || p.n == 0 || p.batch == 0) return cudaSuccess;
  constexpr int kGroup = 8;
  constexpr int kThreads = 64;
  TriangularArguments args{};
  args.unknowns = p.a_on_right ? p.n : p.m;
  args.systems = p.a_on_right ? p.m : p.n;
  args.blocks_of_systems = (args.systems + kThreads - 1) / kThreads;
  args.alpha = p.alpha;
  args.unit_diagonal = p.unit_diagonal;
  args.a = p.a;
  args.b = p.b;
  // On the left, equation e is row e of op(A); on the right, X op(A) = B has column e of op(A) as equation e.
  const bool equations_are_rows = p.a_on_right == p.transpose;
  args.equation_stride = equations_are_rows ? 1 : p.a.ld;
  args.unknown_stride = equations_are_rows ? p.a.ld : 1;
  // An upper matrix has, in row e, the unknowns from e on; in column e, those up to e.
  args.backward = equations_are_rows == p.upper;
  args.system_step = p.a_on_right ? 1 : p.b.ld;
  args.unknown_step = p.a_on_right ? p.b.ld : 1;
  const int64_t blocks = static_cast<int64_t>(args.blocks_of_systems) * p.batch;
  if (blocks > INT32_MAX) return cudaErrorInvalidValue;
  return launch(TriangularSolve<kGroup, kThreads>,
                Launch{dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream}, args);
}

}  // namespace coldstart::cuda
