#include "engine/scheduler.h"

#include <algorithm>

namespace coldstart {

std::vector<uint32_t> PlanStep(const std::vector<Pending>& requests, StepBudget budget, uint64_t start) {
  const size_t count = requests.size();
  std::vector<uint32_t> grants(count, 0);
  uint32_t left = budget.tokens;
  for (const bool decoding : {true, false}) {
    if (!decoding && left < budget.tokens) left = std::min(left, budget.prompts);
    for (size_t i = 0; i < count && left > 0; ++i) {
      const size_t index = (start + i) % count;
      const Pending& request = requests[index];
      if (request.decoding != decoding) continue;
      grants[index] = std::min(request.tokens, left);
      left -= grants[index];
    }
  }
  return grants;
}

}  // namespace coldstart
