// Blocks back to values, bit for bit as ggml's dequantize_row_*() makes them. One thread makes eight values.
#pragma once

#include "cuda/quantize/arithmetic.cuh"
#include "cuda/quantize/staging.cuh"

namespace coldstart::cuda {

constexpr int kDequantizeThreads = 256;

// Eight bytes at an even offset.
struct EightBytes {
  uint32_t words[2];
  __device__ uint32_t operator[](int i) const { return (words[i / 4] >> (8 * (i % 4))) & 0xffu; }
};

__device__ __forceinline__ uint32_t LoadHalfword(const SharedArray<uint16_t>& staged, uint32_t byte) {
  return staged.load(byte / 2);
}

__device__ __forceinline__ EightBytes LoadEightBytes(const SharedArray<uint16_t>& staged, uint32_t byte) {
  EightBytes bytes;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    bytes.words[i] = LoadHalfword(staged, byte + 4 * i) | (LoadHalfword(staged, byte + 4 * i + 2) << 16);
  }
  return bytes;
}

// Each format knows how many values a block has, how many bytes, and makes eight of its values: those from 8 * part on.
// `at` is the block's first byte, an even number.

// Nibbles of 32 values: the low ones are the first half.
struct Nibbles32 {
  __device__ static void Load(const SharedArray<uint16_t>& staged, uint32_t at, int part, int (&steps)[8]) {
    const EightBytes bytes = LoadEightBytes(staged, at + 8 * (part % 2));
#pragma unroll
    for (int i = 0; i < 8; ++i) steps[i] = static_cast<int>((bytes[i] >> (part < 2 ? 0 : 4)) & 0xfu);
  }
};

struct BlocksQ8_0 {
  static constexpr int kValues = 32;
  static constexpr uint32_t kBytes = 34;
  __device__ static void Expand(const SharedArray<uint16_t>& staged, uint32_t at, int part, float (&x)[8]) {
    const float d = FromHalf(static_cast<uint16_t>(LoadHalfword(staged, at)));
    const EightBytes bytes = LoadEightBytes(staged, at + 2 + 8 * part);
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = Multiply(static_cast<float>(static_cast<int8_t>(bytes[i])), d);
  }
};

struct BlocksQ4_0 {
  static constexpr int kValues = 32;
  static constexpr uint32_t kBytes = 18;
  __device__ static void Expand(const SharedArray<uint16_t>& staged, uint32_t at, int part, float (&x)[8]) {
    const float d = FromHalf(static_cast<uint16_t>(LoadHalfword(staged, at)));
    int steps[8];
    Nibbles32::Load(staged, at + 2, part, steps);
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = Multiply(static_cast<float>(steps[i] - 8), d);
  }
};

struct BlocksQ4_1 {
  static constexpr int kValues = 32;
  static constexpr uint32_t kBytes = 20;
  __device__ static void Expand(const SharedArray<uint16_t>& staged, uint32_t at, int part, float (&x)[8]) {
    const float d = FromHalf(static_cast<uint16_t>(LoadHalfword(staged, at)));
    const float min = FromHalf(static_cast<uint16_t>(LoadHalfword(staged, at + 2)));
    int steps[8];
    Nibbles32::Load(staged, at + 4, part, steps);
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = Add(Multiply(static_cast<float>(steps[i]), d), min);
  }
};

// The fifth bits of eight values, of 32 bits in value order.
__device__ __forceinline__ uint32_t FifthBits(const SharedArray<uint16_t>& staged, uint32_t at, int part) {
  return LoadHalfword(staged, at + 2 * (part / 2)) >> (8 * (part % 2));
}

struct BlocksQ5_0 {
  static constexpr int kValues = 32;
  static constexpr uint32_t kBytes = 22;
  __device__ static void Expand(const SharedArray<uint16_t>& staged, uint32_t at, int part, float (&x)[8]) {
    const float d = FromHalf(static_cast<uint16_t>(LoadHalfword(staged, at)));
    const uint32_t fifth = FifthBits(staged, at + 2, part);
    int steps[8];
    Nibbles32::Load(staged, at + 6, part, steps);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      x[i] = Multiply(static_cast<float>((steps[i] | static_cast<int>(((fifth >> i) & 1u) << 4)) - 16), d);
    }
  }
};

struct BlocksQ5_1 {
  static constexpr int kValues = 32;
  static constexpr uint32_t kBytes = 24;
  __device__ static void Expand(const SharedArray<uint16_t>& staged, uint32_t at, int part, float (&x)[8]) {
    const float d = FromHalf(static_cast<uint16_t>(LoadHalfword(staged, at)));
    const float min = FromHalf(static_cast<uint16_t>(LoadHalfword(staged, at + 2)));
    const uint32_t fifth = FifthBits(staged, at + 4, part);
    int steps[8];
    Nibbles32::Load(staged, at + 8, part, steps);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      x[i] = Add(Multiply(static_cast<float>(steps[i] | static_cast<int>(((fifth >> i) & 1u) << 4)), d), min);
    }
  }
};

struct BlocksIq4Nl {
  static constexpr int kValues = 32;
  static constexpr uint32_t kBytes = 18;
  __device__ static void Expand(const SharedArray<uint16_t>& staged, uint32_t at, int part, float (&x)[8]) {
    // The sixteen values as bytes.
    constexpr uint32_t kLow[4] = {0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u};
    const float d = FromHalf(static_cast<uint16_t>(LoadHalfword(staged, at)));
    int steps[8];
    Nibbles32::Load(staged, at + 2, part, steps);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const uint32_t first = steps[i] < 4 ? kLow[0] : kLow[1];
      const uint32_t last = steps[i] < 12 ? kLow[2] : kLow[3];
      const uint32_t word = steps[i] < 8 ? first : last;
      x[i] = Multiply(d, static_cast<float>(static_cast<int8_t>(word >> (8 * (steps[i] % 4)))));
    }
  }
};

template <int kBits>
struct BlocksQ4Q5K {
  static constexpr int kValues = 256;
  static constexpr uint32_t kBytes = kBits == 4 ? 144 : 176;
  __device__ static void Expand(const SharedArray<uint16_t>& staged, uint32_t at, int part, float (&x)[8]) {
    const float all_scales = FromHalf(static_cast<uint16_t>(LoadHalfword(staged, at)));
    const float all_mins = FromHalf(static_cast<uint16_t>(LoadHalfword(staged, at + 2)));
    const uint32_t j = static_cast<uint32_t>(part) / 4;
    const auto byte = [&](uint32_t i) { return (LoadHalfword(staged, at + 4 + (i & ~1u)) >> (8 * (i % 2))) & 0xffu; };
    const uint32_t scale = j < 4 ? byte(j) & 63 : (byte(j + 4) & 0xf) | ((byte(j - 4) >> 6) << 4);
    const uint32_t min_step = j < 4 ? byte(j + 4) & 63 : (byte(j + 4) >> 4) | ((byte(j) >> 6) << 4);
    const float d = Multiply(all_scales, static_cast<float>(scale));
    const float min = Multiply(all_mins, static_cast<float>(min_step));
    const uint32_t within = 8 * (static_cast<uint32_t>(part) % 4);  // the sub-block
    const EightBytes bytes = LoadEightBytes(staged, at + (kBits == 4 ? 16 : 48) + 32 * (j / 2) + within);
    EightBytes fifth{{0, 0}};
    if (kBits == 5) fifth = LoadEightBytes(staged, at + 16 + within);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const uint32_t step = ((bytes[i] >> (j % 2 == 0 ? 0 : 4)) & 0xfu) | (((fifth[i] >> j) & 1u) << 4);
      x[i] = Subtract(Multiply(d, static_cast<float>(step)), min);
    }
  }
};

struct BlocksQ6K {
  static constexpr int kValues = 256;
  static constexpr uint32_t kBytes = 210;
  __device__ static void Expand(const SharedArray<uint16_t>& staged, uint32_t at, int part, float (&x)[8]) {
    const float d = FromHalf(static_cast<uint16_t>(LoadHalfword(staged, at + 208)));
    const uint32_t half = static_cast<uint32_t>(part) / 16;
    const uint32_t quarter = static_cast<uint32_t>(part) % 16 / 4;
    const uint32_t within = 8 * (static_cast<uint32_t>(part) % 4);  // the quarter
    const uint32_t j = static_cast<uint32_t>(part) / 2;             // the sub-block
    const uint32_t scale_bits = (LoadHalfword(staged, at + 192 + (j & ~1u)) >> (8 * (j % 2))) & 0xffu;
    const float scale = Multiply(d, static_cast<float>(static_cast<int8_t>(scale_bits)));
    const EightBytes low = LoadEightBytes(staged, at + 64 * half + 32 * (quarter % 2) + within);
    const EightBytes high = LoadEightBytes(staged, at + 128 + 32 * half + within);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const uint32_t step = ((low[i] >> (quarter < 2 ? 0 : 4)) & 0xfu) | (((high[i] >> (2 * quarter)) & 3u) << 4);
      x[i] = Multiply(scale, static_cast<float>(static_cast<int>(step) - 32));
    }
  }
};

struct TargetF32 {
  static constexpr int kBytes = 4;
  __device__ static void StoreEight(void* target, int64_t i, const float (&x)[8]) {
    float4* to = static_cast<float4*>(target) + 2 * i;
    to[0] = make_float4(x[0], x[1], x[2], x[3]);
    to[1] = make_float4(x[4], x[5], x[6], x[7]);
  }
};

struct TargetF16 {
  static constexpr int kBytes = 2;
  __device__ static void StoreEight(void* target, int64_t i, const float (&x)[8]) {
    uint32_t words[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      words[j] = static_cast<uint32_t>(ToHalf(x[2 * j])) | (static_cast<uint32_t>(ToHalf(x[2 * j + 1])) << 16);
    }
    static_cast<uint4*>(target)[i] = make_uint4(words[0], words[1], words[2], words[3]);
  }
};

// How many blocks a thread block takes: 8 * kDequantizeThreads values.
template <typename Blocks>
constexpr int kBlocksExpanded = 8 * kDequantizeThreads / Blocks::kValues;

// Both pointers are aligned to 16 bytes. Shared memory: kBlocksExpanded blocks.
template <typename Blocks, typename Target>
__global__ void __launch_bounds__(kDequantizeThreads) Dequantize(const uint8_t* source, void* target, int64_t blocks) {
  constexpr int kParts = Blocks::kValues / 8;
  const SharedArray<uint16_t> staged(0);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kBlocksExpanded<Blocks>;
  const int64_t left = blocks - first;
  const uint32_t count = left < kBlocksExpanded<Blocks> ? static_cast<uint32_t>(left) : kBlocksExpanded<Blocks>;
  LoadStaged(source + first * Blocks::kBytes, count * Blocks::kBytes);
  __syncthreads();
  const uint32_t own = threadIdx.x / kParts;
  if (own >= count) return;
  float x[8];
  Blocks::Expand(staged, own * Blocks::kBytes, static_cast<int>(threadIdx.x % kParts), x);
  Target::StoreEight(target, first * kParts + threadIdx.x, x);
}

}  // namespace coldstart::cuda
