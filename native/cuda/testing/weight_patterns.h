// Rows of weights as they are and as they should never be, for tests of quantizing: every block of 256 values is of
// another kind.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace coldstart::cuda::testing {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1p-53; }  // [0, 1)
  double Between(double from, double to) { return from + (to - from) * Uniform(); }
  int Below(int n) { return static_cast<int>(Next() % static_cast<uint64_t>(n)); }
  double Normal() { return std::sqrt(-2 * std::log(1 - Uniform())) * std::cos(6.283185307179586 * Uniform()); }

 private:
  uint64_t state_;
};

constexpr int kKindsOfBlocks = 20;

// One value of a block. `at` is its place in the block, `scale` and `other` are the same for all of the block.
inline double PatternValue(int kind, int at, double scale, double other, double largest, Random& random) {
  switch (kind) {
    case 0: return 0;
    case 1: return random.Below(2) == 0 ? 0.0 : -0.0;
    case 2: return scale;                         // constant
    case 3: return at % 2 == 0 ? scale : -scale;  // two magnitudes alike
    case 4: return random.Between(-1, 1) * scale;
    case 5: return std::exp(random.Between(-20, 5)) * (random.Below(2) == 0 ? 1 : -1);  // a wide range
    case 6: return random.Below(40) == 0 ? random.Normal() * scale : 0;                 // mostly zeros
    case 7: return 100 * scale + random.Normal() * scale;                               // far from 0
    case 8: return -100 * scale - std::fabs(random.Normal()) * scale;                   // below 0
    case 9: return random.Below(17) - 8;                                                // ties
    case 10: return (random.Below(31) - 15) * scale;
    case 11: return random.Normal() * 6e-8;  // subnormal as F16
    case 12: return at == 7 ? largest : random.Normal() * scale;
    case 13: return random.Below(2) == 0 ? largest : -largest;
    case 14: return random.Normal() * 1e-15;   // next to nothing
    case 15: return random.Normal() * 1e-39;   // subnormal as F32
    case 16: return at % 32 == 5 ? other : 0;  // one value in each sub-block
    case 17: return at / 32 % 2 == 0 ? random.Normal() * scale : random.Normal() * scale * 1e-6;
    case 18: return random.Between(0, 1) * scale;  // not negative
    default: return random.Normal() * scale;       // as weights are
  }
}

// `largest`: a magnitude that occurs. Most blocks are as weights are.
inline std::vector<float> PatternRows(int64_t count, double largest, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t first = 0; first < count; first += 256) {
    const int kind = random.Below(2) == 0 ? kKindsOfBlocks - 1 : random.Below(kKindsOfBlocks);
    const double scale = std::exp(random.Between(-12, 2));
    const double other = random.Normal() * scale;
    for (int64_t i = first; i < first + 256 && i < count; ++i) {
      const double value = PatternValue(kind, static_cast<int>(i - first), scale, other, largest, random);
      values[static_cast<size_t>(i)] = static_cast<float>(value > largest    ? largest
                                                          : value < -largest ? -largest
                                                                             : value);
    }
  }
  return values;
}

}  // namespace coldstart::cuda::testing
