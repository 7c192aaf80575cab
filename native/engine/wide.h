// For passes over the whole vocabulary.
#pragma once

#include <bit>
#include <cstdint>

// Compiles a function for wider registers as well, chosen when the addon is loaded.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define COLDSTART_WIDE __attribute__((target_clones("avx512f", "avx2", "default"), optimize("O3")))
#else
#define COLDSTART_WIDE
#endif

namespace coldstart {

// exp(x) for x <= 0, to 2 units in the last place (Cephes' polynomial). Without calls and branches, so that loops over
// it become vectors.
inline float Exp(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float within = x > -87.0f ? x : -87.0f;
  const float shifted = within * 1.44269504f + kRound;
  const int32_t power = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRound);
  const float whole = shifted - kRound;
  const float r = within - whole * 0.693359375f + whole * 2.12194440e-4f;
  const float high = (1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f;
  const float low = ((high * r + 4.1665795894e-2f) * r + 1.6666665459e-1f) * r + 0.5f;
  const float value = std::bit_cast<float>((power + 127) << 23) * (low * r * r + r + 1.0f);
  return x > -87.0f ? value : 0.0f;
}

}  // namespace coldstart
