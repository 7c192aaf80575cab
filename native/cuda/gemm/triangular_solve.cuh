// Solves triangular systems of equations in F32.
//
// The matrix is n x n (on the right) or m x m (on the left). Each right-hand side - a row of B when A is on the right,
// a column otherwise - is an independent system, solved by one thread of a block in place: unknowns in order, each the
// right-hand side less the products with those found, divided by the diagonal. Neighbouring threads have neighbouring
// right-hand sides, and read the same element of A. Unknowns are kept in registers in groups of kGroup, so that each of
// B's elements is read once for each group that follows it rather than once for each unknown.
#pragma once

#include "cuda/device/platform.cuh"
#include "cuda/gemm/elements.cuh"
#include "cuda/gemm/problem.h"

namespace coldstart::cuda {

struct TriangularArguments {
  int unknowns;  // of each system
  int systems;   // right-hand sides of each member of the batch
  int blocks_of_systems;
  float alpha;
  bool unit_diagonal;
  bool backward;  // from the last unknown to the first
  Matrices a, b;
  // Equation e is: the sum over u of coefficient(e, u) * unknown(u) = alpha * right(e), with coefficient(e, u) at
  // e * equation_stride + u * unknown_stride of A, and unknown and right-hand side (s, u) at s * system_step + u *
  // unknown_step of B.
  int64_t equation_stride, unknown_stride;
  int64_t system_step, unknown_step;
};

template <int kGroup, int kThreads>
__global__ void __launch_bounds__(kThreads) TriangularSolve(TriangularArguments args) {
  const int member = blockIdx.x / args.blocks_of_systems;
  const int system = blockIdx.x % args.blocks_of_systems * kThreads + threadIdx.x;
  if (system >= args.systems) return;
  const float* a = static_cast<const float*>(MatrixOf(args.a, member, sizeof(float)));
  float* b =
      static_cast<float*>(const_cast<void*>(MatrixOf(args.b, member, sizeof(float)))) + system * args.system_step;
  // The i-th to be found, counted from the end where that is the order.
  const int last = args.unknowns - 1;
  const auto index = [&](int i) -> int64_t { return args.backward ? last - i : i; };

  for (int first = 0; first < args.unknowns; first += kGroup) {
    float x[kGroup];
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
      x[g] = first + g < args.unknowns ? args.alpha * b[index(first + g) * args.unknown_step] : 0.0f;
    }
    for (int i = 0; i < first; ++i) {
      const float known = b[index(i) * args.unknown_step];
      const float* row = a + index(i) * args.unknown_stride;
#pragma unroll
      for (int g = 0; g < kGroup; ++g) {
        if (first + g < args.unknowns) x[g] = fmaf(-row[index(first + g) * args.equation_stride], known, x[g]);
      }
    }
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
      if (first + g < args.unknowns) {
        const float* equation = a + index(first + g) * args.equation_stride;
#pragma unroll
        for (int h = 0; h < g; ++h) x[g] = fmaf(-equation[index(first + h) * args.unknown_stride], x[h], x[g]);
        if (!args.unit_diagonal) x[g] = x[g] / equation[index(first + g) * args.unknown_stride];
        b[index(first + g) * args.unknown_step] = x[g];
      }
    }
  }
}

}  // namespace coldstart::cuda
