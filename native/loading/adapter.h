// LoRA adapters: small matrices whose product is added to a model's own.
#pragma once

#include <string>
#include <vector>

#include "llama.h"
#include "loading/gguf.h"

namespace coldstart {

struct AdapterOptions {
  std::string path;  // of a GGUF file
  float scale = 1;   // of what it adds
};

// Refuses an adapter that does not fit the model with this header. Throws kModelNotFound, kInvalidGguf,
// kUnsupportedModel.
void CheckAdapter(const std::string& path, const GgufFile& model);

// Loads checked adapters, which live as long as the model, and uses them in the context. Throws kOutOfMemory,
// kLoadFailed.
class Adapters {
 public:
  Adapters() = default;
  Adapters(llama_model* model, const std::vector<AdapterOptions>& options);

  void Use(llama_context* context) const;

 private:
  std::vector<llama_adapter_lora*> adapters_;
  mutable std::vector<float> scales_;  // llama.cpp takes them as changeable
};

}  // namespace coldstart
