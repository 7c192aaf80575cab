// What a model would take: llama.cpp's own answer, without weights and without allocating.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "engine/engine_options.h"
#include "loading/memory_breakdown.h"
#include "loading/skeleton.h"

namespace coldstart {

struct Demand {
  std::vector<DeviceMemory> devices;
  uint32_t layers = 0;  // the output layer not counted
  uint32_t trained_context_length = 0;
  uint32_t context_length = 0;
  uint32_t kv_cells = 0;
};

class Planner {
 public:
  explicit Planner(Skeleton skeleton) : skeleton_(std::move(skeleton)) {}

  // What an engine with these options would allocate. Of the options' paths nothing is read.
  // Any thread. Throws kInvalidOption, kUnsupportedModel, kLoadFailed.
  Demand Measure(EngineOptions options) const;

 private:
  const Skeleton& SkeletonFor(const EngineOptions& options) const;

  Skeleton skeleton_;
  mutable std::mutex mutex_;  // guards the next one; and the skeletons' files have one position each
  mutable std::optional<std::pair<Recipe, Skeleton>> quantized_;  // the last one asked for
};

}  // namespace coldstart
