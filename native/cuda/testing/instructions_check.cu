// Runs the cases of instructions.cuh on a GPU: what the emulation takes an instruction for is what the hardware does.
//
//   instructions_check [seed]
#include <cstdio>
#include <cstdlib>

#include "cuda/testing/instructions.cuh"

int main(int count, char** arguments) {
  namespace instructions = coldstart::cuda::instructions;
  const auto seed = static_cast<uint32_t>(count > 1 ? std::atol(arguments[1]) : 1);
  cudaDeviceProp facts;
  if (cudaGetDeviceProperties(&facts, 0) != cudaSuccess) {
    std::printf("There is no GPU.\n");
    return 2;
  }
  const int sm = 10 * facts.major + facts.minor;
  std::printf("%s, sm_%d, seed %u\n", facts.name, sm, seed);
  int failed = 0;
  for (const auto& one : instructions::kCases) {
    if (sm < one.least_sm) {
      std::printf("skipped  %s\n", one.name);
      continue;
    }
    const std::string error = one.run(seed);
    std::printf("%s  %s%s%s\n", error.empty() ? "ok     " : "FAILED ", one.name, error.empty() ? "" : ": ",
                error.c_str());
    failed += error.empty() ? 0 : 1;
    std::fflush(stdout);
  }
  if (sm >= 90 && failed == 0) {
    // The last, as it may end in an error of CUDA's, after which nothing runs. No failure: nothing relies on it.
    const std::string answer = instructions::AskBoxesFromAnyElement(seed);
    std::printf("asked    boxes from any element: %s\n", answer.empty() ? "as other boxes" : answer.c_str());
  }
  std::printf("%d failed\n", failed);
  return failed == 0 ? 0 : 1;
}
