// What ggml makes of weights, as fast as a machine's processors allow.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "cuda/quantize/types.h"
#include "ggml.h"

namespace coldstart::cuda::testing {

constexpr WeightType kQuantized[] = {WeightType::kQ8_0, WeightType::kQ4_0, WeightType::kQ4_1,
                                     WeightType::kQ5_0, WeightType::kQ5_1, WeightType::kIQ4_NL,
                                     WeightType::kQ4_K, WeightType::kQ5_K, WeightType::kQ6_K};
constexpr WeightType kFloats[] = {WeightType::kF16, WeightType::kBF16, WeightType::kF32};

inline ggml_type Ggml(WeightType type) { return static_cast<ggml_type>(type); }
inline std::string Name(WeightType type) { return ggml_type_name(Ggml(type)); }

// In several threads: the reference is slow.
inline void InParallel(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& work) {
  std::atomic<int64_t> next = 0;
  std::vector<std::thread> threads;
  const auto run = [&] {
    for (int64_t first = next.fetch_add(grain); first < count; first = next.fetch_add(grain)) {
      work(first, std::min(grain, count - first));
    }
  };
  for (unsigned i = 1; i < std::max(1u, std::thread::hardware_concurrency()); ++i) threads.emplace_back(run);
  run();
  for (std::thread& thread : threads) thread.join();
}

// In the source's type, and what each of these is as F32.
inline std::vector<uint8_t> Narrow(WeightType type, std::vector<float>& values) {
  std::vector<uint8_t> bytes(values.size() * LayoutOf(type).bytes);
  const auto count = static_cast<int64_t>(values.size());
  if (type == WeightType::kF32) std::memcpy(bytes.data(), values.data(), bytes.size());
  if (type == WeightType::kF16) {
    ggml_fp32_to_fp16_row(values.data(), reinterpret_cast<ggml_fp16_t*>(bytes.data()), count);
    ggml_fp16_to_fp32_row(reinterpret_cast<const ggml_fp16_t*>(bytes.data()), values.data(), count);
  }
  if (type == WeightType::kBF16) {
    ggml_fp32_to_bf16_row(values.data(), reinterpret_cast<ggml_bf16_t*>(bytes.data()), count);
    ggml_bf16_to_fp32_row(reinterpret_cast<const ggml_bf16_t*>(bytes.data()), values.data(), count);
  }
  return bytes;
}

inline std::vector<uint8_t> Reference(WeightType to, const std::vector<float>& values) {
  const BlockLayout layout = LayoutOf(to);
  std::vector<uint8_t> blocks(values.size() / static_cast<size_t>(layout.values) * layout.bytes);
  InParallel(static_cast<int64_t>(values.size()) / layout.values, 4096, [&](int64_t first, int64_t count) {
    ggml_quantize_chunk(Ggml(to), values.data() + first * layout.values,
                        blocks.data() + static_cast<size_t>(first) * layout.bytes, 0, 1, count * layout.values,
                        nullptr);
  });
  return blocks;
}

}  // namespace coldstart::cuda::testing
