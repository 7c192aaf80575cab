// Which kernel computes a problem. Pure: the same answer for the same arguments, without a GPU.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "cuda/gemm/problem.h"

namespace coldstart::cuda {

// The plan by which RunGemm computes a problem.
GemmPlan ChooseKernel(const GemmProblem& problem, const GemmDevice& device);

// The same, remembered: a model asks for the same few problems again and again, and a choice takes as long as a launch.
// For one device and workspace; by one thread at a time.
class PlanCache {
 public:
  GemmPlan Choose(const GemmProblem& problem, const GemmDevice& device);
  void Clear() { sets_ = {}; }

 private:
  struct Entry {
    int m = 0;
    int n = 0;
    int k = 0;
    int batch = 0;
    unsigned traits = 0;
    GemmPlan plan;  // of nothing, where the entry is free
  };
  using Set = std::array<Entry, 4>;
  std::array<Set, 32> sets_;
};

// Whether a plan computes this problem on this device.
bool SuitsProblem(const GemmPlan& plan, const GemmProblem& problem, const GemmDevice& device);

// All plans that compute it, for measuring.
std::vector<GemmPlan> SuitablePlans(const GemmProblem& problem, const GemmDevice& device);

// Whether it may be the fastest, as far as an estimate can tell.
bool IsWorthMeasuring(const GemmPlan& plan, const GemmProblem& problem, const GemmDevice& device);

// "wgmma 128x256 splits 2", "mma 64x32 splits 4": for people, and for tests to choose by.
std::string NameOf(const GemmPlan& plan);

}  // namespace coldstart::cuda
