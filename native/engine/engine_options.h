// What a model is loaded with.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/speculator.h"
#include "loading/adapter.h"
#include "loading/loaded_model.h"
#include "weights/checkpoint.h"
#include "weights/recipe.h"

namespace coldstart {

struct EngineOptions {
  ModelOptions model;
  std::shared_ptr<const Checkpoint> checkpoint;  // load this, and no file; model.path is what users know it by
  std::optional<Recipe> recipe;                  // quantize the weights while they are loaded
  std::vector<AdapterOptions> adapters;
  std::string projector;        // path of the file for pictures and recordings; empty: none
  ContextOptions context;       // cells 0: as many as context_length needs
  uint32_t context_length = 0;  // tokens of one request; 0: the model's own, at most max_default_context
  uint32_t max_default_context = 8192;
  uint32_t prefill_budget = 128;  // most prompt tokens of a step in which others are decoding
  uint32_t max_queue = 1024;      // requests that may wait
  bool prefix_cache = true;
  uint64_t spill_bytes = 0;     // for prefixes that had to leave the KV cache
  std::string spill_directory;  // for files to keep them in; empty: in main memory
  // Results that do not depend on what else runs: each sequence in a pool and in steps of its own.
  bool deterministic = false;
  // Use fewer than context.threads threads while others need the cores.
  bool adapt_threads = false;
  SpeculationOptions speculation;
  bool scores = true;  // texts can be scored: logits of many of their tokens in one step
};

// Most guessed tokens of one step, over all requests: logits of each are computed.
constexpr uint32_t kMaxGuesses = 64;

// Logits of texts to score, in one step: as a rule no more than what its layers need, which lies in the same memory.
constexpr uint32_t kScoredBytes = 16 << 20;

// Largest logits of each token that a GPU is asked for: more than the default of topK, and few beside a vocabulary.
constexpr uint32_t kTopLogits = 64;

// Fills in what depends on the model.
void Complete(EngineOptions& options, const llama_model* model);

}  // namespace coldstart
