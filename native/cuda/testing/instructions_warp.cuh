// Cases of instructions.cuh: matrix instructions of one warp.
#pragma once

#include "cuda/testing/instructions.cuh"

namespace coldstart::cuda::instructions {

// --- ldmatrix, stmatrix
// ----------------------------------------------------------------------------------------------------

constexpr uint32_t kRowBytes = 48;  // from one row of a matrix to the next
constexpr uint32_t kRows = 32;

// out: 4 registers of LoadMatrix4, 2 of LoadMatrix2, 4 and 2 of the transposed, each for 32 lanes.
static __global__ void LoadMatrices(const uint16_t* values, uint32_t* out) {
  const SharedArray<uint16_t> shared(0);
  for (uint32_t i = threadIdx.x; i < kRows * kRowBytes / 2; i += 32) shared.store(i, values[i]);
  __syncthreads();
  const SharedAddress row = shared_address(threadIdx.x * kRowBytes);
  uint32_t four[4], two[2];
  LoadMatrix4(four, row);
  for (int i = 0; i < 4; ++i) out[32 * i + threadIdx.x] = four[i];
  LoadMatrix2(two, row);
  for (int i = 0; i < 2; ++i) out[32 * (4 + i) + threadIdx.x] = two[i];
  LoadMatrix4Transposed(four, row);
  for (int i = 0; i < 4; ++i) out[32 * (6 + i) + threadIdx.x] = four[i];
  LoadMatrix2Transposed(two, row);
  for (int i = 0; i < 2; ++i) out[32 * (10 + i) + threadIdx.x] = two[i];
}

inline std::string CheckMatrices(uint32_t seed) {
  Random random(seed);
  Memory<uint16_t> values(kRows * kRowBytes / 2);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint16_t>(random.Next());
  Memory<uint32_t> out(32 * 12);
  const std::string error = Finish(launch(LoadMatrices, Launch{1, 32, kRows * kRowBytes}, values.data(), out.data()));
  if (!error.empty()) return error;
  const int first[] = {0, 4, 6, 10}, count[] = {4, 2, 4, 2};
  for (int kind = 0; kind < 4; ++kind) {
    const bool transposed = kind >= 2;
    for (int matrix = 0; matrix < count[kind]; ++matrix) {
      for (int lane = 0; lane < 32; ++lane) {
        const auto element = [&](int i, int j) -> uint32_t {
          const int row = transposed ? j : i, column = transposed ? i : j;
          return values[static_cast<size_t>((8 * matrix + row) * static_cast<int>(kRowBytes / 2) + column)];
        };
        const uint32_t expected = element(lane / 4, 2 * (lane % 4)) | element(lane / 4, 2 * (lane % 4) + 1) << 16;
        const size_t at = static_cast<size_t>(32 * (first[kind] + matrix) + lane);
        if (out[at] != expected) return Differs("register", at, out[at], expected);
      }
    }
  }
  return "";
}

// Two copies of shared memory: after StoreMatrix4Transposed, after StoreMatrix2Transposed.
static __global__ void StoreMatrices(const uint32_t* registers, uint16_t* out) {
  const SharedArray<uint16_t> shared(0);
  constexpr uint32_t kCount = kRows * kRowBytes / 2;
  for (uint32_t i = threadIdx.x; i < 2 * kCount; i += 32) shared.store(i, 0);
  __syncthreads();
  uint32_t four[4], two[2];
  for (int i = 0; i < 4; ++i) four[i] = registers[32 * i + threadIdx.x];
  for (int i = 0; i < 2; ++i) two[i] = registers[32 * i + threadIdx.x];
  StoreMatrix4Transposed(shared_address(threadIdx.x * kRowBytes), four);
  StoreMatrix2Transposed(shared_address((kRows + threadIdx.x) * kRowBytes), two);
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < 2 * kCount; i += 32) out[i] = shared.load(i);
}

inline std::string CheckStoredMatrices(uint32_t seed) {
  Random random(seed);
  Memory<uint32_t> registers(32 * 4);
  for (size_t i = 0; i < registers.size(); ++i) registers[i] = random.Next();
  constexpr size_t kCount = kRows * kRowBytes / 2;
  Memory<uint16_t> out(2 * kCount);
  const std::string error =
      Finish(launch(StoreMatrices, Launch{1, 32, 2 * kRows * kRowBytes}, registers.data(), out.data()));
  if (!error.empty()) return error;
  std::vector<uint16_t> expected(2 * kCount, 0);
  for (int copy = 0; copy < 2; ++copy) {
    for (int matrix = 0; matrix < (copy == 0 ? 4 : 2); ++matrix) {
      for (int lane = 0; lane < 32; ++lane) {
        const uint32_t word = registers[static_cast<size_t>(32 * matrix + lane)];
        const auto at = [&](int row, int column) {
          return copy * kCount + static_cast<size_t>((8 * matrix + row) * static_cast<int>(kRowBytes / 2) + column);
        };
        expected[at(2 * (lane % 4), lane / 4)] = static_cast<uint16_t>(word);
        expected[at(2 * (lane % 4) + 1, lane / 4)] = static_cast<uint16_t>(word >> 16);
      }
    }
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    if (out[i] != expected[i]) return Differs("element", i, out[i], expected[i]);
  }
  return "";
}

// --- mma
// -------------------------------------------------------------------------------------------------------------------

enum class Kind { kF16K8, kF16, kBf16, kTf32 };

template <Kind kKind>
struct KindFacts {
  static constexpr int kK = kKind == Kind::kF16 || kKind == Kind::kBf16 ? 16 : 8;
  static constexpr bool kWide = kKind == Kind::kTf32;
};

// a: 16 rows of K values, b: K rows of 8, d: 16 rows of 8; values of 16 bits in a word each.
template <Kind kKind>
static __global__ void Products(const uint32_t* a, const uint32_t* b, float* d) {
  constexpr int kK = KindFacts<kKind>::kK;
  const int group = threadIdx.x / 4, fourth = threadIdx.x % 4;
  uint32_t of_a[4], of_b[2];
  for (int i = 0; i < 4; ++i) {
    const int row = group + 8 * (i % 2);
    if constexpr (KindFacts<kKind>::kWide) {
      of_a[i] = a[row * kK + fourth + 4 * (i / 2)];
    } else if (kK == 16 || i < 2) {
      const int column = 2 * fourth + 8 * (i / 2);
      of_a[i] = a[row * kK + column] | a[row * kK + column + 1] << 16;
    }
  }
  for (int i = 0; i < 2; ++i) {
    if constexpr (KindFacts<kKind>::kWide) {
      of_b[i] = b[(fourth + 4 * i) * 8 + group];
    } else if (kK == 16 || i < 1) {
      const int row = 2 * fourth + 8 * i;
      of_b[i] = b[row * 8 + group] | b[(row + 1) * 8 + group] << 16;
    }
  }
  float sums[4];
  for (int i = 0; i < 4; ++i) sums[i] = d[(group + 8 * (i / 2)) * 8 + 2 * fourth + i % 2];
  if constexpr (kKind == Kind::kF16K8) {
    const uint32_t short_a[2] = {of_a[0], of_a[1]};
    MultiplyF16K8(sums, short_a, of_b[0]);
  } else if constexpr (kKind == Kind::kF16) {
    MultiplyF16(sums, of_a, of_b);
  } else if constexpr (kKind == Kind::kBf16) {
    MultiplyBf16(sums, of_a, of_b);
  } else {
    MultiplyTf32(sums, of_a, of_b);
  }
  for (int i = 0; i < 4; ++i) d[(group + 8 * (i / 2)) * 8 + 2 * fourth + i % 2] = sums[i];
}

template <Kind kKind>
std::string CheckProducts(uint32_t seed) {
  constexpr int kK = KindFacts<kKind>::kK;
  Random random(seed);
  Memory<uint32_t> a(16 * kK), b(kK * 8);
  Memory<float> d(16 * 8);
  std::vector<int> whole_a(a.size()), whole_b(b.size()), whole_d(d.size());
  const auto bits = [&](int value) -> uint32_t {
    // What is below the bits of TF32 must not count.
    if (KindFacts<kKind>::kWide) return FloatBits(value) | (random.Next() & 0x1fff);
    return kKind == Kind::kBf16 ? BfloatBits(value) : HalfBits(value);
  };
  for (size_t i = 0; i < a.size(); ++i)
    a[i] = bits(whole_a[i] = random.Integer(1, 9) * (random.Integer(0, 1) == 0 ? 1 : -1));
  for (size_t i = 0; i < b.size(); ++i)
    b[i] = bits(whole_b[i] = random.Integer(1, 9) * (random.Integer(0, 1) == 0 ? 1 : -1));
  for (size_t i = 0; i < d.size(); ++i) d[i] = static_cast<float>(whole_d[i] = random.Integer(-99, 99));
  const std::string error = Finish(launch(Products<kKind>, Launch{1, 32}, a.data(), b.data(), d.data()));
  if (!error.empty()) return error;
  for (size_t row = 0; row < 16; ++row) {
    for (size_t column = 0; column < 8; ++column) {
      int expected = whole_d[row * 8 + column];
      for (size_t k = 0; k < kK; ++k) expected += whole_a[row * kK + k] * whole_b[k * 8 + column];
      const float got = d[row * 8 + column];
      if (got != static_cast<float>(expected)) return Differs("element", row * 8 + column, got, expected);
    }
  }
  return "";
}

// --- cvt.rna.tf32
// ------------------------------------------------------------------------------------------------------------

static __global__ void Round(const uint32_t* values, uint32_t* out, uint32_t count) {
  for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) out[i] = RoundToTf32(values[i]);
}

inline std::string CheckRounding(uint32_t seed) {
  Random random(seed);
  const uint32_t special[] = {0,          0x80000000, 0x3f800fff, 0x3f801000, 0x3f801001, 0xbf801000,
                              0x3f803000, 0x7f7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001,
                              0x00000fff, 0x00001000, 0x007fffff, 0x80001fff, 0x3fffffff};
  Memory<uint32_t> values(4096), out(4096);
  for (size_t i = 0; i < values.size(); ++i) values[i] = random.Next() ^ random.Next() << 16;
  for (size_t i = 0; i < sizeof(special) / 4; ++i) values[i] = special[i];
  const auto count = static_cast<uint32_t>(values.size());
  const std::string error = Finish(launch(Round, Launch{1, 128}, values.data(), out.data(), count));
  if (!error.empty()) return error;
  for (size_t i = 0; i < values.size(); ++i) {
    const uint32_t magnitude = values[i] & 0x7fffffff;
    if (magnitude > 0x7f800000) {
      // One that only its lower bits tell from an infinity may become one.
      const bool stays = (magnitude & 0x7fe000) != 0;
      if (stays && (out[i] & 0x7fffffff) <= 0x7f800000) return Differs("NaN", values[i], out[i], values[i]);
      continue;
    }
    // Ties away from zero. What is below the bits of TF32 is not defined.
    const uint32_t expected = magnitude == 0x7f800000 ? values[i] : values[i] + 0x1000;
    if (out[i] >> 13 != expected >> 13) return Differs("value", values[i], out[i], expected);
  }
  return "";
}

}  // namespace coldstart::cuda::instructions
