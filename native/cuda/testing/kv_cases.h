// KV caches of all kinds, what has to come out of them, and what has to be in them afterwards: plain loops, and ggml's
// own code for blocks. For tests of moving cells, on a GPU and in the emulation.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "cuda/kv/cells.h"
#include "cuda/testing/weight_patterns.h"
#include "ggml.h"

namespace coldstart::cuda::testing {

constexpr uint8_t kCachePoison = 0xcd;

struct Spec {
  uint32_t size;           // bytes of a row, or elements
  uint32_t element_bytes;  // 0: rows
  KvEncoding encoding;
  uint32_t padding;  // bytes between rows
  uint32_t shift;    // bytes that the tensor starts off a multiple of 256
};

// A cache on the host, of which the device has a copy.
struct Cache {
  std::vector<Spec> specs;
  uint32_t cells;
  std::vector<uint64_t> starts;
  std::vector<uint8_t> bytes;

  uint64_t Stride(size_t i) const {
    const Spec& spec = specs[i];
    return spec.element_bytes != 0 ? uint64_t{cells} * spec.element_bytes + spec.padding
                                   : uint64_t{spec.size} + spec.padding;
  }
  uint32_t Rows(size_t i) const { return specs[i].element_bytes != 0 ? specs[i].size : cells; }
  void Lay() {
    uint64_t at = 0;
    for (size_t i = 0; i < specs.size(); ++i) {
      starts.push_back(at + specs[i].shift);
      at = (at + specs[i].shift + Stride(i) * Rows(i) + 255) / 256 * 256;
    }
    bytes.resize(at);
  }
  std::vector<KvTensor> Tensors(uint8_t* device) const {
    std::vector<KvTensor> tensors;
    for (size_t i = 0; i < specs.size(); ++i) {
      tensors.push_back({device + starts[i], Stride(i), specs[i].size, specs[i].element_bytes, specs[i].encoding});
    }
    return tensors;
  }
};

inline ggml_type TypeOf(KvEncoding encoding) { return encoding == KvEncoding::kQ8_0 ? GGML_TYPE_Q8_0 : GGML_TYPE_Q4_0; }

inline std::vector<float> Widened(const uint8_t* row, uint32_t bytes) {
  std::vector<float> values(bytes / 2);
  ggml_fp16_to_fp32_row(reinterpret_cast<const ggml_fp16_t*>(row), values.data(), static_cast<int64_t>(values.size()));
  return values;
}

inline std::vector<uint8_t> ExpectedOut(const Cache& cache, const std::vector<uint32_t>& cells) {
  std::vector<uint8_t> out;
  for (size_t i = 0; i < cache.specs.size(); ++i) {
    const Spec& spec = cache.specs[i];
    const uint8_t* data = cache.bytes.data() + cache.starts[i];
    const uint64_t stride = cache.Stride(i);
    if (spec.element_bytes != 0) {
      for (uint32_t element = 0; element < spec.size; ++element) {
        for (const uint32_t cell : cells) {
          const uint8_t* from = data + element * stride + uint64_t{cell} * spec.element_bytes;
          out.insert(out.end(), from, from + spec.element_bytes);
        }
      }
    } else {
      for (const uint32_t cell : cells) {
        const uint8_t* row = data + cell * stride;
        if (spec.encoding == KvEncoding::kAsIs) {
          out.insert(out.end(), row, row + spec.size);
          continue;
        }
        const std::vector<float> values = Widened(row, spec.size);
        std::vector<uint8_t> blocks(ggml_row_size(TypeOf(spec.encoding), static_cast<int64_t>(values.size())));
        ggml_quantize_chunk(TypeOf(spec.encoding), values.data(), blocks.data(), 0, 1,
                            static_cast<int64_t>(values.size()), nullptr);
        out.insert(out.end(), blocks.begin(), blocks.end());
      }
    }
    out.resize((out.size() + 15) / 16 * 16, kCachePoison);
  }
  return out;
}

// What a poisoned cache is after the cells `to` were put back from what was taken out of `from`.
inline std::vector<uint8_t> ExpectedBack(const Cache& cache, const std::vector<uint32_t>& from,
                                         const std::vector<uint32_t>& to) {
  std::vector<uint8_t> back(cache.bytes.size(), kCachePoison);
  for (size_t i = 0; i < cache.specs.size(); ++i) {
    const Spec& spec = cache.specs[i];
    const uint64_t start = cache.starts[i];
    const uint64_t stride = cache.Stride(i);
    for (size_t n = 0; n < from.size(); ++n) {
      if (spec.element_bytes != 0) {
        for (uint32_t element = 0; element < spec.size; ++element) {
          std::memcpy(&back[start + element * stride + uint64_t{to[n]} * spec.element_bytes],
                      &cache.bytes[start + element * stride + uint64_t{from[n]} * spec.element_bytes],
                      spec.element_bytes);
        }
        continue;
      }
      const uint8_t* row = &cache.bytes[start + from[n] * stride];
      if (spec.encoding == KvEncoding::kAsIs) {
        std::memcpy(&back[start + to[n] * stride], row, spec.size);
        continue;
      }
      std::vector<float> values = Widened(row, spec.size);
      const auto count = static_cast<int64_t>(values.size());
      std::vector<uint8_t> blocks(ggml_row_size(TypeOf(spec.encoding), count));
      ggml_quantize_chunk(TypeOf(spec.encoding), values.data(), blocks.data(), 0, 1, count, nullptr);
      ggml_get_type_traits(TypeOf(spec.encoding))->to_float(blocks.data(), values.data(), count);
      ggml_fp32_to_fp16_row(values.data(), reinterpret_cast<ggml_fp16_t*>(&back[start + to[n] * stride]), count);
    }
  }
  return back;
}

inline std::vector<uint32_t> ChooseCells(uint32_t cells, uint32_t count, int how, Random& random) {
  std::vector<uint32_t> all(cells);
  std::iota(all.begin(), all.end(), 0);
  if (how == 0) {  // in a row
    const auto first = static_cast<uint32_t>(random.Below(static_cast<int>(cells - count + 1)));
    return {all.begin() + first, all.begin() + first + count};
  }
  for (uint32_t i = 0; i < cells; ++i)
    std::swap(all[i], all[static_cast<size_t>(random.Below(static_cast<int>(cells)))]);
  all.resize(count);
  if (how == 1) std::sort(all.begin(), all.end());  // with gaps; else in any order
  return all;
}

inline void FillRandom(Cache& cache, Random& random) {
  for (uint8_t& byte : cache.bytes) byte = static_cast<uint8_t>(random.Next());
  for (size_t i = 0; i < cache.specs.size(); ++i) {
    if (cache.specs[i].encoding == KvEncoding::kAsIs) continue;
    for (uint32_t cell = 0; cell < cache.cells; ++cell) {
      std::vector<float> values = PatternRows(cache.specs[i].size / 2, 6e4, random.Next());
      ggml_fp32_to_fp16_row(values.data(),
                            reinterpret_cast<ggml_fp16_t*>(&cache.bytes[cache.starts[i] + cell * cache.Stride(i)]),
                            static_cast<int64_t>(values.size()));
    }
  }
}

struct KvCase {
  const char* name;
  std::vector<Spec> specs;
  uint32_t cells;  // of the cache
  uint32_t count;  // moved
  size_t staging;
};

inline std::vector<KvCase> KvCases() {
  const auto raw = KvEncoding::kAsIs;
  const auto q8 = KvEncoding::kQ8_0;
  const auto q4 = KvEncoding::kQ4_0;
  constexpr size_t kPlenty = size_t{64} << 20;
  return {
      {"rows", {{2048, 0, raw, 0, 0}, {2048, 0, raw, 0, 0}, {512, 0, raw, 0, 0}}, 300, 129, kPlenty},
      {"odd rows",
       {{170, 0, raw, 0, 0}, {34, 0, raw, 6, 2}, {7, 0, raw, 0, 1}, {1, 0, raw, 0, 0}, {136, 0, raw, 0, 8}},
       100,
       37,
       kPlenty},
      {"transposed",
       {{64, 2, raw, 0, 0}, {33, 2, raw, 0, 2}, {16, 4, raw, 0, 0}, {5, 1, raw, 0, 0}, {96, 2, raw, 32, 0}},
       200,
       83,
       kPlenty},
      {"transposed, a multiple of eight",
       {{64, 2, raw, 0, 0}, {16, 4, raw, 0, 0}, {40, 1, raw, 0, 0}},
       256,
       128,
       kPlenty},
      {"transposed, all cells",
       {{24, 2, raw, 0, 0}, {9, 4, raw, 0, 0}, {11, 1, raw, 0, 0}, {10, 2, raw, 0, 2}},
       512,
       512,
       kPlenty},
      {"encoded",
       {{2048, 0, q8, 0, 0}, {64, 0, q4, 0, 0}, {320, 0, q8, 64, 16}, {1024, 0, q4, 0, 0}},
       120,
       61,
       kPlenty},
      {"pieces",
       {{2048, 0, raw, 0, 0}, {170, 0, raw, 0, 0}, {300, 2, raw, 0, 0}, {2048, 0, q8, 0, 0}},
       256,
       250,
       100000},
      {"one cell", {{2048, 0, raw, 0, 0}, {64, 2, raw, 0, 0}, {2048, 0, q4, 0, 0}}, 9, 1, 4096},
  };
}

// How many tensors are not as they should be; bytes between them are of no account.
inline int DifferentTensors(const Cache& cache, const std::vector<KvTensor>& tensors, uint32_t count,
                            const uint8_t* out, const std::vector<uint8_t>& expected) {
  uint64_t at = 0;
  int different = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t rows = tensors[i].element_bytes != 0 ? tensors[i].size : count;
    different += std::memcmp(out + at, &expected[at], rows * StagedRowBytes(tensors[i], count)) != 0 ? 1 : 0;
    at += StagedBytes(tensors[i], count);
  }
  return at == expected.size() && cache.specs.size() == tensors.size() ? different : -1;
}

}  // namespace coldstart::cuda::testing
