// Decides which request gets how many tokens of the next step. Pure: knows counts, not tokens.
#pragma once

#include <cstdint>
#include <vector>

namespace coldstart {

// One live request, as the scheduler sees it.
struct Pending {
  uint32_t tokens;  // not yet computed: the rest of the prompt, or 1 (and guesses after it) while generating
  bool decoding;    // the prompt is done
};

struct StepBudget {
  uint32_t tokens;   // of one step, at least 1
  uint32_t prompts;  // of them for prompts, at least 1, in a step in which others are decoding
};

// Grants tokens of one step to each request, in the order given: `grants[i]` tokens for `requests[i]`.
//
// Decoding requests come first, so that a long prompt never stalls a stream. Prompts share what is left. `start`
// rotates who comes first among each kind: pass a number that grows by one each step, and nobody starves as long as the
// budget is larger than what the decoding requests want.
std::vector<uint32_t> PlanStep(const std::vector<Pending>& requests, StepBudget budget, uint64_t start);

}  // namespace coldstart
