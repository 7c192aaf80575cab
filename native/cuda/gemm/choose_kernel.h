// Which kernel computes a problem. Pure: the same answer for the same arguments, without a GPU.
#pragma once

#include <string>
#include <vector>

#include "cuda/gemm/problem.h"

namespace coldstart::cuda {

// The plan by which RunGemm computes a problem.
GemmPlan ChooseKernel(const GemmProblem& problem, const GemmDevice& device);

// Whether a plan computes this problem on this device.
bool SuitsProblem(const GemmPlan& plan, const GemmProblem& problem, const GemmDevice& device);

// All plans that compute it, for measuring.
std::vector<GemmPlan> SuitablePlans(const GemmProblem& problem, const GemmDevice& device);

// Whether it may be the fastest, as far as an estimate can tell.
bool IsWorthMeasuring(const GemmPlan& plan, const GemmProblem& problem, const GemmDevice& device);

// "wgmma 128x256 splits 2", "mma 64x32 splits 4": for people, and for tests to choose by.
std::string NameOf(const GemmPlan& plan);

}  // namespace coldstart::cuda
