#include "cuda/gemm/choose_kernel.h"

namespace coldstart::cuda {

bool SuitsProblem(const GemmPlan& plan, const GemmProblem& problem, const GemmDevice& device) {
  (void)problem;
  (void)device;
  return plan.kind == GemmKind::kSimt || plan.kind == GemmKind::kNothing;
}

std::vector<GemmPlan> SuitablePlans(const GemmProblem& problem, const GemmDevice& device) {
  (void)problem;
  (void)device;
  GemmPlan plan;
  plan.kind = GemmKind::kSimt;
  return {plan};
}

GemmPlan ChooseKernel(const GemmProblem& problem, const GemmDevice& device) {
  (void)device;
  GemmPlan plan;
  if (problem.m == 0 || problem.n == 0 || problem.batch == 0) return plan;
  plan.kind = GemmKind::kSimt;
  return plan;
}

}  // namespace coldstart::cuda
