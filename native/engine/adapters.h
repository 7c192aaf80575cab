// The adapters of a model and the mixes of them that requests ask for. Engine's thread only.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "llama.h"
#include "loading/adapter.h"

namespace coldstart {

struct AdapterUse {
  uint32_t id;  // of an adapter
  float scale;
  auto operator<=>(const AdapterUse&) const = default;
};

// What a text is computed with. What was computed with one is of no use to another: keys and values differ.
struct AdapterMix {
  struct Part {
    std::shared_ptr<const Adapter> adapter;
    float scale;
  };
  uint32_t number;  // tells it from all others, also those that are gone; 0: the model alone
  std::vector<Part> parts;
};

using AdapterMixPtr = std::shared_ptr<const AdapterMix>;

class Adapters {
 public:
  // `header` is the model's.
  Adapters(llama_model* model, GgufFile header);

  // Throws what CheckAdapter and Adapter do.
  const Adapter& Load(uint32_t id, const std::string& path);

  // Forgets an adapter and gives back all mixes that it was part of: it is freed when nobody has one of these any more.
  std::vector<AdapterMixPtr> Unload(uint32_t id);

  // The same one for the same uses, in whatever order; scales of 0 do not count. Throws kInvalidOption when one of them
  // is not loaded.
  AdapterMixPtr Mix(std::span<const AdapterUse> uses);

 private:
  llama_model* const model_;
  const GgufFile header_;
  std::map<uint32_t, std::shared_ptr<const Adapter>> loaded_;
  std::map<std::vector<AdapterUse>, AdapterMixPtr> mixes_;  // by their uses, sorted
  uint32_t next_number_ = 1;
};

// What a context computes with.
class ActiveAdapters {
 public:
  // Throws kOutOfMemory: then what is set is set anew by the next call.
  void Use(llama_context* context, const AdapterMixPtr& mix);
  // Uses none of these any more.
  void LetGo(llama_context* context, std::span<const AdapterMixPtr> mixes);

 private:
  AdapterMixPtr mix_;     // null: the model alone
  bool complete_ = true;  // all of it was set
  bool has_directions_ = false;
};

}  // namespace coldstart
