// Attention as ggml's CPU back end computes it, by itself: a test compares it with sums in F64.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace coldstart {

struct AttentionInput {
  int64_t head_size;
  int64_t tokens;     // rows of Q
  int64_t positions;  // rows of K and V
  int64_t heads;
  int64_t key_value_heads;     // heads / key_value_heads heads share one of K and V
  std::string type;            // of K and V: "f16", "f32", "q8_0", …
  std::vector<float> q;        // [heads][tokens][head_size]
  std::vector<float> k, v;     // [key_value_heads][positions][head_size]
  std::vector<uint8_t> shown;  // [tokens][positions]; 0: masked
  int32_t threads;
};

// [tokens][heads][head_size]
std::vector<float> Attention(const AttentionInput& input);

}  // namespace coldstart
