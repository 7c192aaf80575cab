// Decides which request gets how many tokens of the next step. Pure: knows counts, not tokens.
#pragma once

#include <cstdint>
#include <vector>

namespace coldstart {

// One live request, as the scheduler sees it.
struct Pending {
  uint32_t tokens;  // not yet computed: the rest of the prompt, or 1 while generating
  bool decoding;    // the prompt is done and one token is generated a step
};

// Grants tokens of one step to each request, in the order given: `grants[i]` tokens for `requests[i]`.
//
// Decoding requests come first, one token each, so that a long prompt never stalls a stream. Prompts share what is left
// of `budget` (tokens a step, at least 1). `start` rotates who comes first among each kind: pass a number that grows by
// one each step, and nobody starves as long as the budget is larger than the number of decoding requests.
std::vector<uint32_t> PlanStep(const std::vector<Pending>& requests, uint32_t budget, uint64_t start);

}  // namespace coldstart
